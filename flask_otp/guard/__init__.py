"""``@otp_required``: only clients with a matching verification pass, as long as the store confirms it."""

from .decorator import otp_required as otp_required
from .passing import enforce as enforce
from .passing import find_verification as find_verification
from .passing import require as require
from .protect import protector as protector
from .rules import Rule as Rule
from .rules import make_rule as make_rule
