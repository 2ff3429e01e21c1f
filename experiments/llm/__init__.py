"""Language models as players: who is asked, what they are told, how words become actions, what it costs."""
