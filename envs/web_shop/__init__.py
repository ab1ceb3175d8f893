"""A web shop: search, compare, choose options, buy. Rules and reward are WebShop's (Yao et al., 2022)."""

from .catalogue import Difficulty, GeneratedCatalogue, Goal, Product
from .reward import PurchaseReward, default_nouns, purchase_reward
from .rules import ShopState, WebShopSimulator

__all__ = [
    "Difficulty",
    "GeneratedCatalogue",
    "Goal",
    "Product",
    "PurchaseReward",
    "ShopState",
    "WebShopSimulator",
    "default_nouns",
    "purchase_reward",
]
