"""What a browser stores for us in its session: handles, proofs and similar tokens.

It is never trusted just for being there: everything important is signed, and the store decides. It contains no code,
nothing derived from a code, and no counter.
"""

from .asking_client import client as client
from .asking_client import known as known
from .asking_client import network as network
from .asking_client import new_secret as new_secret
from .asking_client import propose_secret as propose_secret
from .checked import checked_proofs as checked_proofs
from .checked import find_checked as find_checked
from .checked import forget_checked as forget_checked
from .checked import note_checked as note_checked
from .checked import note_passed as note_passed
from .cleared import finish as finish
from .cleared import unseen_session as unseen_session
from .held_challenges import challenge as challenge
from .held_challenges import challenge_id as challenge_id
from .held_challenges import challenges as challenges
from .held_challenges import drop_challenge as drop_challenge
from .held_challenges import find_challenge as find_challenge
from .held_challenges import load_requirement as load_requirement
from .held_challenges import may_send_on as may_send_on
from .held_challenges import note_on_challenge as note_on_challenge
from .held_challenges import purposes_of_challenges as purposes_of_challenges
from .held_challenges import requirement as requirement
from .held_challenges import store_challenge as store_challenge
from .held_proofs import all_proofs as all_proofs
from .held_proofs import drop_proof as drop_proof
from .held_proofs import heal as heal
from .held_proofs import proofs as proofs
from .held_proofs import store_proof as store_proof
from .kept import delete as delete
from .kept import get as get
from .kept import get_all as get_all
from .kept import set as set
from .kept import take as take
