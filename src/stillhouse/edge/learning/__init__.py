"""What clones teach a core: rules, gates, merging, and the lesson that is made of them."""
