"""What a person sees of a flow: a chat exchange as a readable transcript, and the view that shows it."""
