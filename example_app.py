"""The whole of it: a page that only verified people see. Run ``python example_app.py`` and open /account.

No Redis and no mail server is needed: messages are printed here and shown on /otp/outbox, on this machine alone. For
production, put these three lines in place of those with "memory://" and OTP_OUTBOX, delete the channel, and read
docs/operate/before-live.md:

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
app.config["OTP_OUTBOX"] = True  # in debug mode only: here, app.run(debug=True)

otp = OTP(app)


@otp.channel("email")
def show_message(message: Message) -> None:
    """In place of e-mail: a channel is a function of a message, and raises if it cannot deliver."""
    print(f"\nTo: {message.recipient}\nSubject: {message.subject}\n\n{message.text}\n", flush=True)


@app.get("/")
def home() -> str:
    return render_template_string("<p><a href='/account'>Your account</a> · <a href='/otp/outbox'>Outbox</a></p>")


@app.get("/account")
@otp_required
def account() -> str:
    return render_template_string(
        "<h1>Welcome, {{ who }}</h1>"
        "<form method=post action='{{ url_for('otp.logout') }}'><button>Log out</button></form>",
        who=current_verification.identifier,
    )


if __name__ == "__main__":
    app.run(port=5000, debug=True, use_reloader=False)
