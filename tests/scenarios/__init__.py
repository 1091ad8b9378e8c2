"""Problems that several tests share, by subject."""
