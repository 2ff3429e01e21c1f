"""What planning brings and costs: several actors of one run, as one command."""
