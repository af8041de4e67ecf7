"""One-time codes for Flask: send, limit and verify. See :class:`OTP`."""

from .channels import Channel as Channel
from .channels import ProviderDown as ProviderDown
from .channels import RecipientRefused as RecipientRefused
from .channels import WebhookChannel as WebhookChannel
from .errors import ChallengeRequired as ChallengeRequired
from .errors import ConfigError as ConfigError
from .errors import CrossOrigin as CrossOrigin
from .errors import DeliveryFailed as DeliveryFailed
from .errors import FactorsUnavailable as FactorsUnavailable
from .errors import IdempotencyConflict as IdempotencyConflict
from .errors import InvalidCode as InvalidCode
from .errors import InvalidIdentifier as InvalidIdentifier
from .errors import InvalidRequest as InvalidRequest
from .errors import InvalidWebhook as InvalidWebhook
from .errors import OTPError as OTPError
from .errors import RateLimited as RateLimited
from .errors import StoreUnavailable as StoreUnavailable
from .errors import VerificationRequired as VerificationRequired
from .extension import OTP as OTP
from .extension import current_verification as current_verification
from .guard import otp_required as otp_required
from .models import Challenge as Challenge
from .models import Enrolment as Enrolment
from .models import Factors as Factors
from .models import Message as Message
from .models import TrustedBrowser as TrustedBrowser
from .models import Verification as Verification
from .state import health as health

__version__ = "0.1.0"
