"""The whole of it: a page that only verified people see. Run ``python example_app.py`` and open /account.

No Redis and no mail server is needed: messages are printed here and shown on /outbox. For production, put these three
lines in place of the one with "memory://", delete the channel and the outbox, and read the README's notes:

    app.config["OTP_STORAGE_URI"] = "redis://localhost:6379"
    app.config["OTP_EMAIL_SERVICE"] = "gmail"  # or MAIL_SERVER, MAIL_PORT, MAIL_USE_TLS, MAIL_DEFAULT_SENDER
    app.config.update(MAIL_USERNAME="you@gmail.com", MAIL_PASSWORD="an app password")
"""

import os
import secrets

from flask import Flask, render_template_string

from flask_otp import OTP, Message, current_verification, otp_required

app = Flask(__name__)
# Codes and sessions are derived from this key: in production it must stay the same over restarts.
app.config["SECRET_KEY"] = os.environ.get("SECRET_KEY") or secrets.token_hex()
app.config["OTP_STORAGE_URI"] = "memory://"
app.config["OTP_SITE_NAME"] = "Example"

otp = OTP(app)

outbox: list[Message] = []


@otp.channel("email")
def show_message(message: Message) -> None:
    """In place of e-mail: a channel is a function of a message, and raises if it cannot deliver."""
    outbox.append(message)
    print(f"\nTo: {message.recipient}\nSubject: {message.subject}\n\n{message.text}\n", flush=True)


@app.get("/")
def home() -> str:
    return render_template_string("<p><a href='/account'>Your account</a> · <a href='/outbox'>Outbox</a></p>")


@app.get("/account")
@otp_required
def account() -> str:
    return render_template_string(
        "<h1>Welcome, {{ who }}</h1>"
        "<form method=post action='{{ url_for('otp.logout') }}'><button>Log out</button></form>",
        who=current_verification.identifier,
    )


@app.get("/outbox")
def show_outbox() -> str:
    """What was 'sent'. For the example only: in a real app nobody else may read a code."""
    return render_template_string(
        "<h1>Outbox</h1>{% for m in outbox|reverse %}<p>To {{ m.recipient }}</p><pre>{{ m.text }}</pre>{% endfor %}",
        outbox=outbox,
    )


if __name__ == "__main__":
    app.run(port=5000)
