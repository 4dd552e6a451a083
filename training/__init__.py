"""How each shipped model was made, from data to card. Never imported by the product."""
