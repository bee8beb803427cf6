"""Where the records lie: one Protocol, several stores."""
