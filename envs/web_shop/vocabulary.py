"""What the generated shop sells: categories, aisles, product types, attributes, option values, brands.

An *aisle* is a part of a category whose product types share a pool of ten attributes and the option groups. The type in
place ``t`` of its aisle uses five of the ten, those from ``2 t`` on (cyclically), so that neighbouring types share some
attributes and no two types share all. Words were chosen so that the reward's fuzzy match (``reward.py``) tells any two
attributes of an aisle and any two values of an option group apart; a test holds that.

Brands are invented. Everything here is part of the environment's version: a changed word changes catalogues.
"""

from dataclasses import dataclass
from typing import Final

TYPES_PER_AISLE: Final = 5
ATTRIBUTES_PER_TYPE: Final = 5


@dataclass(frozen=True, slots=True)
class Aisle:
    """``groups``: names of option groups (keys of ``OPTION_VALUES``); ``prices``: lowest and highest, whole dollars;
    ``path``: WebShop's ``product_category`` without its last part, which is the product type."""

    category: str
    path: str
    types: tuple[str, ...]
    attributes: tuple[str, ...]
    groups: tuple[tuple[str, str], ...]
    prices: tuple[int, int]
    use: str


@dataclass(frozen=True, slots=True)
class ProductType:
    """One thing on sale, such as "dress shirt"."""

    noun: str
    aisle: Aisle
    attributes: tuple[str, ...]

    @property
    def product_category(self) -> str:
        return f"{self.aisle.path} › {self.noun.title()}"


ACRONYMS: Final = frozenset({"usb", "tv", "hdmi", "hd", "uv", "gmo", "usda", "bpa"})

# Pool name -> values. A group is (name shown to the customer, pool).
OPTION_VALUES: Final[dict[str, tuple[str, ...]]] = {
    "color": ("black", "blue", "red", "green", "white", "gray", "pink", "brown", "purple", "orange", "yellow", "teal"),
    "shade": ("nude", "coral", "plum", "mauve", "bronze", "peach", "burgundy", "ruby"),
    "finish": ("walnut", "espresso", "white", "oak", "black", "cherry", "gray", "maple"),
    "size": ("s", "m", "l", "xl"),
    "shoe size": ("6", "7", "8", "9"),
    "volume": ("mini", "travel", "regular", "jumbo"),
    "bed": ("twin", "full", "queen", "king"),
    "pack": ("single", "double", "triple", "dozen"),
    "scent": ("lavender", "citrus", "vanilla", "jasmine", "cedar", "coconut", "eucalyptus", "rose"),
    "snack flavor": ("honey", "cinnamon", "sesame", "coconut", "salted", "cocoa", "maple", "chili"),
    "drink flavor": ("ginger", "lemon", "berry", "mocha", "hibiscus", "vanilla", "plain", "hazelnut"),
    "pantry flavor": ("garlic", "basil", "chili", "original", "smoky", "herb", "lemon", "truffle"),
    "sweet flavor": ("mint", "caramel", "berry", "orange", "honey", "cherry", "vanilla", "cinnamon"),
    "style": ("classic", "modern", "retro", "compact"),
}

BRANDS: Final = (
    "norvik", "bellora", "tamsin", "quillo", "hartwell", "zephra", "oakmere", "lumina", "pinero", "vesta", "corvin",
    "dalia", "ember", "fjord", "galen", "halden", "isola", "juniper", "kestrel", "larkin", "mirabel", "nimbus", "orla",
    "penrose", "rowan", "solstice", "tallis", "umbra", "verano", "wexley", "yarrow", "zinnia",
)  # fmt: skip

AISLES: Final = (
    Aisle(
        "fashion", "Clothing › Men",
        ("dress shirt", "polo shirt", "henley shirt", "crewneck sweater", "fleece hoodie"),
        ("slim fit", "machine washable", "long sleeve", "quick drying", "wrinkle free", "moisture wicking",
         "soft cotton", "relaxed shoulder", "ribbed collar", "hand wash"),
        (("color", "color"), ("size", "size")), (15, 70), "everyday wear",
    ),
    Aisle(
        "fashion", "Clothing › Women",
        ("maxi dress", "tunic blouse", "pencil skirt", "knit cardigan", "linen jumpsuit"),
        ("high waist", "stretch fabric", "button closure", "tummy control", "side pockets", "floral print",
         "breathable lining", "dry clean", "short sleeve", "loose drape"),
        (("color", "color"), ("size", "size")), (18, 80), "work and weekends",
    ),
    Aisle(
        "fashion", "Shoes › Unisex",
        ("running shoes", "ankle boots", "leather loafers", "trail sandals", "canvas sneakers"),
        ("non slip", "arch support", "memory foam", "lace up", "rubber sole", "wide toe", "water repellent",
         "shock absorbing", "vegan suede", "padded heel"),
        (("color", "color"), ("size", "shoe size")), (25, 95), "long days on your feet",
    ),
    Aisle(
        "fashion", "Clothing › Active",
        ("yoga leggings", "track pants", "gym shorts", "sports bra", "rain jacket"),
        ("squat proof", "drawstring waist", "reflective trim", "seamless knit", "zip pocket", "sun protective",
         "odor resistant", "tapered leg", "four way stretch", "mesh panel"),
        (("color", "color"), ("size", "size")), (14, 65), "training indoors and out",
    ),
    Aisle(
        "beauty", "Beauty › Skin Care",
        ("face cream", "night serum", "clay mask", "body lotion", "facial cleanser"),
        ("fragrance free", "cruelty free", "hyaluronic acid", "vitamin enriched", "oil control", "sensitive skin",
         "fast absorbing", "green tea", "dermatologist tested", "anti aging"),
        (("scent", "scent"), ("size", "volume")), (8, 55), "a calm daily routine",
    ),
    Aisle(
        "beauty", "Beauty › Hair Care",
        ("hair mask", "argan shampoo", "curl conditioner", "styling gel", "scalp scrub"),
        ("sulfate free", "heat protective", "deep moisture", "anti frizz", "plant based", "tea tree",
         "damage repair", "strong hold", "keratin rich", "quick rinse"),
        (("scent", "scent"), ("size", "volume")), (7, 45), "healthy looking hair",
    ),
    Aisle(
        "beauty", "Beauty › Makeup",
        ("tinted balm", "matte lipstick", "brow pencil", "liquid foundation", "eye palette"),
        ("long lasting", "highly pigmented", "easy blend", "smudge proof", "talc free", "buildable coverage",
         "shea butter", "mineral formula", "dewy look", "refillable case"),
        (("color", "shade"), ("pack", "pack")), (6, 40), "day and evening looks",
    ),
    Aisle(
        "beauty", "Beauty › Tools",
        ("makeup brushes", "nail clippers", "bath sponge", "hair dryer", "facial roller"),
        ("stainless steel", "easy clean", "travel friendly", "soft bristle", "ergonomic handle", "gift boxed",
         "gentle massage", "folding design", "low noise", "professional grade"),
        (("color", "color"), ("pack", "pack")), (9, 60), "care at home",
    ),
    Aisle(
        "electronics", "Electronics › Audio",
        ("wireless earbuds", "bluetooth speaker", "gaming headset", "sound bar", "desk microphone"),
        ("noise cancelling", "fast charging", "hands free", "deep bass", "touch control", "sweat proof",
         "surround sound", "foldable frame", "long battery", "dual driver"),
        (("color", "color"), ("style", "style")), (19, 95), "music, calls and games",
    ),
    Aisle(
        "electronics", "Electronics › Phones",
        ("phone case", "screen protector", "charging cable", "power bank", "car mount"),
        ("shock absorbent", "scratch resistant", "high speed", "nylon braided", "magnetic closure", "ultra thin",
         "wireless charging", "privacy tint", "raised edge", "tangle free"),
        (("color", "color"), ("pack", "pack")), (6, 45), "phones of every make",
    ),
    Aisle(
        "electronics", "Electronics › Computers",
        ("mechanical keyboard", "laptop stand", "usb hub", "vertical mouse", "webcam kit"),
        ("plug play", "adjustable height", "aluminum alloy", "silent click", "spill resistant", "low latency",
         "heat dissipation", "backlit keys", "rechargeable battery", "cable management"),
        (("color", "color"), ("style", "style")), (15, 90), "a tidy desk",
    ),
    Aisle(
        "electronics", "Electronics › Home",
        ("security camera", "tv antenna", "hdmi adapter", "projector screen", "smart plug"),
        ("motion detection", "night vision", "ultra hd", "voice activated", "easy install", "long range",
         "weather sealed", "app controlled", "gold plated", "energy saving"),
        (("style", "style"), ("pack", "pack")), (12, 90), "homes and small offices",
    ),
    Aisle(
        "grocery", "Grocery › Snacks",
        ("trail mix", "granola bars", "rice crackers", "veggie chips", "protein cookies"),
        ("gluten free", "low sodium", "high protein", "non gmo", "kosher certified", "dairy free", "oven baked",
         "resealable bag", "whole grain", "nothing artificial"),
        (("flavor", "snack flavor"), ("pack", "pack")), (5, 35), "lunch boxes and long drives",
    ),
    Aisle(
        "grocery", "Grocery › Drinks",
        ("herbal infusion", "ground coffee", "coconut water", "ginger kombucha", "oat milk"),
        ("caffeine free", "usda organic", "fair trade", "low calorie", "zero sugar", "freshly roasted",
         "bpa free", "rich aroma", "immune support", "single origin"),
        (("flavor", "drink flavor"), ("pack", "pack")), (6, 40), "slow mornings",
    ),
    Aisle(
        "grocery", "Grocery › Pantry",
        ("pasta sauce", "cooking oil", "almond butter", "curry paste", "salad dressing"),
        ("keto friendly", "cold pressed", "shelf stable", "small batch", "vegan certified", "extra thick",
         "no additives", "paleo diet", "glass jar", "family recipe"),
        (("flavor", "pantry flavor"), ("size", "volume")), (5, 38), "quick home cooking",
    ),
    Aisle(
        "grocery", "Grocery › Sweets",
        ("dark chocolate", "fruit gummies", "hard candy", "kettle popcorn", "baking mix"),
        ("soy free", "individually wrapped", "natural ingredients", "low carb", "party size", "real fruit",
         "peanut safe", "palm oil free", "chewy texture", "handmade daily"),
        (("flavor", "sweet flavor"), ("pack", "pack")), (5, 32), "parties and gifts",
    ),
    Aisle(
        "garden", "Home › Bedding",
        ("throw blanket", "pillow covers", "duvet cover", "bed sheets", "mattress topper"),
        ("super soft", "machine wash", "cooling touch", "hypoallergenic fill", "hidden zipper", "fade resistant",
         "double sided", "deep fitted", "quilted pattern", "organic bamboo"),
        (("color", "color"), ("size", "bed")), (16, 90), "better sleep",
    ),
    Aisle(
        "garden", "Home › Furniture",
        ("console table", "bar stool", "office chair", "storage cabinet", "corner bookcase"),
        ("solid wood", "easy assembly", "space saving", "metal legs", "lumbar support", "faux leather",
         "adjustable shelf", "swivel base", "tempered glass", "anti tip"),
        (("finish", "finish"), ("style", "style")), (35, 95), "rooms large and small",
    ),
    Aisle(
        "garden", "Garden › Outdoor",
        ("plant pot", "watering hose", "solar lanterns", "bird feeder", "patio umbrella"),
        ("weather resistant", "rust proof", "drainage holes", "leak free", "heavy duty", "uv protected",
         "auto shutoff", "hanging hook", "frost safe", "recycled plastic"),
        (("color", "color"), ("style", "style")), (8, 80), "balconies and back yards",
    ),
    Aisle(
        "garden", "Home › Decor",
        ("table lamp", "wall clock", "window curtains", "area rug", "pillar candles"),
        ("living room", "blackout lining", "battery powered", "energy efficient", "stain resistant", "hand woven",
         "dimmable glow", "ceramic base", "noise reducing", "geometric motif"),
        (("color", "color"), ("style", "style")), (10, 85), "a warm home",
    ),
)  # fmt: skip


def product_types() -> tuple[ProductType, ...]:
    """Every product type of every aisle, aisle by aisle; length 100."""
    found = []
    for aisle in AISLES:
        for place, noun in enumerate(aisle.types):
            pool = tuple(aisle.attributes[(2 * place + k) % len(aisle.attributes)] for k in range(ATTRIBUTES_PER_TYPE))
            found.append(ProductType(noun, aisle, pool))
    return tuple(found)


# (title, stars, what was written); nothing here says an attribute, so that a review never earns one.
REVIEWS: Final = (
    ("Just right", 5, "Exactly what the page says. Would order again."),
    ("Good value", 4, "Arrived on time and does what it should."),
    ("It is fine", 3, "Works, but I expected a little more for the price."),
    ("Not for me", 2, "Came well packed, yet I sent it back."),
    ("Second one I bought", 5, "The first still looks great after a year."),
    ("Nice gift", 4, "My sister was very happy with it."),
    ("Smaller than I thought", 3, "Check the page before you choose."),
    ("Would not buy again", 1, "It broke in the first week."),
)
