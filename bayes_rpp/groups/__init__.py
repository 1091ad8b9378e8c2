"""Matrix groups: their generators, elements, products and random elements."""
