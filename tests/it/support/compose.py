"""A Direct peer's mail program on Python's email package.

compose MESSAGE-ID FROM TO DOCUMENT...   writes the entity that wraps a message with these documents
send PORT FROM TO                        gives the mail on standard input to the relay on that port
"""

import email.policy
import pathlib
import smtplib
import sys
from email.message import EmailMessage


def compose(message_id, sender, to, *documents):
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = f"Rui Gonçalves <{sender}>"
    message["To"] = to
    message["Subject"] = "Überweisung für die Sprechstunde in Köln, mit Anlagen, wie besprochen"
    message["Date"] = "Sun, 22 Nov 2026 07:59:00 +0000"
    message["Message-ID"] = f"<{message_id}>"
    message.set_content("Grüße. Bitte die Anlagen beachten.\n\n.\nFrom hier an nichts mehr.\n")
    for path in map(pathlib.Path, documents):
        message.add_attachment(
            path.read_bytes(), maintype="application", subtype="pdf", filename=f"Befund für {path.name}"
        )
    wrapping = EmailMessage(policy=email.policy.SMTP)
    wrapping.set_content(message, cte="8bit")
    del wrapping["MIME-Version"]
    sys.stdout.buffer.write(wrapping.as_bytes())


def send(port, sender, to):
    with smtplib.SMTP("127.0.0.1", int(port)) as relay:
        relay.sendmail(sender, [to], sys.stdin.buffer.read(), ["BODY=8BITMIME"])


{"compose": compose, "send": send}[sys.argv[1]](*sys.argv[2:])
