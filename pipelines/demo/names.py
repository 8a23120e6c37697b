"""What the demo's shop sells, and the words it describes it with."""

CATEGORIES: dict[str, tuple[str, str, str]] = {
    "baking": ("sourdough", "pastry", "cookies"),
    "birding": ("songbirds", "feeders", "binoculars"),
    "board games": ("strategy", "party", "puzzle"),
    "camping": ("tents", "stoves", "hammocks"),
    "ceramics": ("glazes", "vases", "teaware"),
    "chess": ("openings", "clocks", "endgames"),
    "climbing": ("ropes", "bouldering", "harnesses"),
    "coffee": ("espresso", "grinders", "filter"),
    "cycling": ("gravel", "touring", "repair"),
    "diving": ("fins", "wrecks", "masks"),
    "gardening": ("seeds", "roses", "compost"),
    "knitting": ("yarn", "socks", "lace"),
    "maps": ("atlas", "globes", "topography"),
    "origami": ("paper", "cranes", "modular"),
    "photography": ("lenses", "film", "portraits"),
    "running": ("trail", "marathon", "sprint"),
    "sailing": ("knots", "rigging", "charts"),
    "stargazing": ("telescopes", "planets", "comets"),
    "synthesizers": ("modular sound", "drums", "samplers"),
    "woodwork": ("joinery", "carving", "turning"),
}
"""Category -> its tags."""

STYLES: dict[str, tuple[str, ...]] = {
    "rustic": ("rough", "earthy", "handmade", "weathered"),
    "sleek": ("slim", "polished", "minimal", "seamless"),
    "playful": ("bright", "cheeky", "bouncy", "colourful"),
    "classic": ("timeless", "brass", "heritage", "formal"),
    "rugged": ("tough", "waterproof", "reinforced", "heavy"),
    "dainty": ("delicate", "tiny", "feather", "soft"),
}
"""Style -> words. Only an item's text tells its style."""

FILLERS = ("for", "with", "and", "a", "the", "every", "day", "made", "good", "set", "of", "new")
NOUNS = ("kit", "guide", "set", "bundle", "box", "starter", "collection", "companion")
COUNTRIES = ("AR", "DE", "IN", "JP", "KE", "NL", "NO", "PT")
