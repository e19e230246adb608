"""What can be known before a batch is made: each thing that would stop or bend one, with what mends it."""
