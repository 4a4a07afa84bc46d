//! The `Received` field that we put in front of a mail (RX-11).

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};

use super::session::{Hello, Mail};
use crate::flows::ports::{MailRecipient, SmtpPeer};

/// The field with its line end. `None` when `now` cannot be written as RFC 5322 writes dates.
pub(super) fn field(
    hello: &Hello,
    peer: &SmtpPeer,
    host: &str,
    id: &str,
    mail: &Mail,
    now: Timestamp,
) -> Option<String> {
    let protocol = match (hello.is_extended, &peer.tls) {
        (true, Some(_)) => "ESMTPS",
        (true, None) => "ESMTP",
        (false, _) => "SMTP",
    };
    let ip = peer.address.ip().to_canonical();
    let ip = if ip.is_ipv6() {
        format!("IPv6:{ip}")
    } else {
        ip.to_string()
    };
    // With more recipients than one, each would learn of the others (RFC 5321 §7.6).
    let for_whom = match mail.recipients.as_slice() {
        [MailRecipient::Address { address, .. }] => format!("\r\n\tfor <{address}>"),
        _ => String::new(),
    };
    let date = rfc2822::to_string(&now.to_zoned(TimeZone::UTC)).ok()?;
    Some(format!(
        "Received: from {} ([{ip}])\r\n\tby {host} with {protocol}\r\n\tid {id}{for_whom};\r\n\t{date}\r\n",
        hello.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        adapters::smtp_server::session::Mail, flows::ports::SmtpTls, formats::ids::DirectAddress,
    };

    fn peer(address: &str, is_tls: bool) -> SmtpPeer {
        SmtpPeer {
            address: address.parse().unwrap(),
            helo: "mx.elm.example".to_owned(),
            tls: is_tls.then(|| SmtpTls {
                version: "TLSv1.3".to_owned(),
                cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
                certificate: None,
            }),
        }
    }

    fn written(peer: &SmtpPeer, is_extended: bool, to: &[&str]) -> String {
        let hello = Hello {
            name: peer.helo.clone(),
            is_extended,
        };
        let address = |text: &&str| text.parse::<DirectAddress>().unwrap();
        let mail = Mail::to(to.iter().map(address));
        let now = "2026-11-22T06:07:08Z".parse().unwrap();
        field(&hello, peer, "bridge.harbor.example", "7f", &mail, now).unwrap()
    }

    // rule: RX-11
    #[test]
    fn the_trace_field_says_from_whom_how_and_when() {
        assert_eq!(
            written(&peer("192.0.2.1:4711", true), true, &["ada@harbor.example"]),
            "Received: from mx.elm.example ([192.0.2.1])\r\n\tby bridge.harbor.example with ESMTPS\r\n\tid 7f\r\n\t\
             for <ada@harbor.example>;\r\n\tSun, 22 Nov 2026 06:07:08 +0000\r\n"
        );
    }

    // rule: RX-11
    #[test]
    fn several_recipients_are_not_told_of_each_other() {
        let peer = peer("[2001:db8::1]:4711", false);
        let field = written(
            &peer,
            false,
            &["ada@harbor.example", "ngozi@harbor.example"],
        );
        assert!(field.contains("([IPv6:2001:db8::1])") && field.contains(" with SMTP\r\n"));
        assert!(!field.contains("for <"));
    }
}
