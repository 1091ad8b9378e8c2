"""Tables as people have them: files of numbers and labels, read by the names of their columns."""
