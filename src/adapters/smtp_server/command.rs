//! One command line, understood or refused. smtp-proto reads verbs, paths and parameter values; what it takes too
//! kindly (arguments where there are none, parameters that were never offered, `<postmaster>` and `<>` alike) is
//! looked at here.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use smtp_proto::{Error, MAIL_BODY_BINARYMIME, MAIL_SMTPUTF8, Request};

use super::reply::Reply;
use crate::formats::ids::{AddressError, DirectAddress};

/// Longest command line without extensions, with its line end (RFC 5321 §4.5.3.1.4).
const MAX_PLAIN_COMMAND_BYTES: usize = 512;
/// Longest domain in EHLO (RFC 5321 §4.5.3.1.2).
const MAX_HELO_BYTES: usize = 255;
/// Digits of SIZE (RFC 1870 §3).
const MAX_SIZE_DIGITS: usize = 20;

/// MAIL parameters that are understood: those of DSN are taken and not acted on, since DSN is not offered (RX-21).
const MAIL_PARAMETERS: [&str; 5] = ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID"];
/// RCPT parameters that are understood (RX-28).
const RCPT_PARAMETERS: [&str; 2] = ["NOTIFY", "ORCPT"];

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Ehlo(String),
    Helo(String),
    Mail(MailFrom),
    Rcpt(RcptTo),
    Data,
    Rset,
    Noop,
    Quit,
    StartTls,
    Vrfy,
    /// One that we know and do not offer.
    NotOffered,
}

/// MAIL FROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MailFrom {
    /// `None` for `<>`.
    pub(super) from: Option<DirectAddress>,
    /// SIZE, in octets.
    pub(super) size: Option<u64>,
    pub(super) is_utf8: bool,
}

/// RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RcptTo {
    /// `None` for `<postmaster>`.
    pub(super) to: Option<DirectAddress>,
    /// ORCPT, decoded.
    pub(super) original: Option<String>,
    /// Whether only SMTPUTF8 can carry the path as it was written.
    pub(super) needs_utf8: bool,
}

/// Understands one line, given without its CRLF.
pub(super) fn read(line: &[u8]) -> Result<Command, Reply> {
    let text = str::from_utf8(line)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| Reply::new(500, "5.5.2", "a command holds printable characters only"))?;
    let text = text.trim_end_matches(' ');
    let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
    let is = |name: &str| verb.eq_ignore_ascii_case(name);
    if line.len() + 2 > MAX_PLAIN_COMMAND_BYTES && !is("MAIL") && !is("RCPT") {
        return Err(too_long());
    }
    let takes_none = ["DATA", "RSET", "QUIT", "STARTTLS"].into_iter().any(is);
    if takes_none && !argument.trim().is_empty() {
        return Err(bad_argument("this command takes no argument"));
    }
    let (text, parameters) = match argument.split_once('<') {
        Some(_) if is("MAIL") => without_size(text, &MAIL_PARAMETERS)?,
        Some(_) if is("RCPT") => without_size(text, &RCPT_PARAMETERS)?,
        _ => (text.to_owned(), Vec::new()),
    };
    let octets = [text.as_bytes(), b"\r\n"].concat();
    match Request::parse(&mut octets.iter()) {
        Ok(Request::Ehlo { .. }) => helo_name(argument).map(Command::Ehlo),
        Ok(Request::Helo { .. }) => helo_name(argument).map(Command::Helo),
        Ok(Request::Mail { from }) => mail(argument, &from, &parameters),
        Ok(Request::Rcpt { to }) => rcpt(argument, &to),
        Ok(Request::Data) => Ok(Command::Data),
        Ok(Request::Rset) => Ok(Command::Rset),
        Ok(Request::Noop { .. }) => Ok(Command::Noop),
        Ok(Request::Quit) => Ok(Command::Quit),
        Ok(Request::StartTls) => Ok(Command::StartTls),
        Ok(Request::Vrfy { .. }) => Ok(Command::Vrfy),
        Ok(_) => Ok(Command::NotOffered),
        Err(error) => refused(&error, verb),
    }
}

/// What a line that smtp-proto does not take is answered with.
fn refused(error: &Error, verb: &str) -> Result<Command, Reply> {
    let is = |name: &str| verb.eq_ignore_ascii_case(name);
    match error {
        Error::UnsupportedParameter { .. } => Err(unknown_parameter()),
        Error::InvalidParameter { .. } => {
            Err(bad_argument("a parameter's value is not of its form"))
        }
        _ if is("MAIL") => Err(bad_sender()),
        _ if is("RCPT") => Err(bad_recipient()),
        // Known, never offered, and here not even well-formed.
        _ if [
            "EXPN", "HELP", "BDAT", "AUTH", "ETRN", "ATRN", "BURL", "LHLO",
        ]
        .into_iter()
        .any(is) =>
        {
            Ok(Command::NotOffered)
        }
        Error::SyntaxError { .. } => {
            Err(bad_argument("the argument is missing or not of its form"))
        }
        _ => Err(Reply::new(500, "5.5.2", "no such command")),
    }
}

fn mail(
    argument: &str,
    mail: &smtp_proto::MailFrom<Cow<'_, str>>,
    parameters: &[Parameter],
) -> Result<Command, Reply> {
    let (path, _) = path_and_parameters(argument).ok_or_else(bad_sender)?;
    if mail.flags & MAIL_BODY_BINARYMIME != 0 {
        // Only with BDAT, which is not offered (RFC 3030 §3).
        return Err(unknown_parameter());
    }
    let is_utf8 = mail.flags & MAIL_SMTPUTF8 != 0;
    let size = parameters.iter().find(|parameter| parameter.name == "SIZE");
    let size = size
        .map(|parameter| size_of(&parameter.value))
        .transpose()?;
    let from = match path {
        "" => None,
        // smtp-proto takes `<postmaster>` here.
        _ if mail.address.is_empty() => return Err(bad_sender()),
        _ => Some(mail.address.parse().map_err(|error| match error {
            AddressError::NotAscii => not_ascii(),
            _ => bad_sender(),
        })?),
    };
    if !path.is_ascii() && !is_utf8 {
        return Err(not_ascii());
    }
    Ok(Command::Mail(MailFrom {
        from,
        size,
        is_utf8,
    }))
}

fn rcpt(argument: &str, rcpt: &smtp_proto::RcptTo<Cow<'_, str>>) -> Result<Command, Reply> {
    let (path, _) = path_and_parameters(argument).ok_or_else(bad_recipient)?;
    let original = rcpt.orcpt.as_ref().map(ToString::to_string);
    if original
        .iter()
        .flat_map(|text| text.chars())
        .any(char::is_control)
    {
        return Err(bad_argument("ORCPT holds a control character"));
    }
    let to = match path {
        "" => return Err(bad_recipient()),
        _ if path.eq_ignore_ascii_case("postmaster") => None,
        _ => Some(rcpt.address.parse().map_err(unusable_recipient)?),
    };
    Ok(Command::Rcpt(RcptTo {
        to,
        original,
        needs_utf8: !path.is_ascii(),
    }))
}

/// A path of good form that is no address of ours (RX-24, RX-25).
fn unusable_recipient(error: AddressError) -> Reply {
    match error {
        AddressError::NotAscii => not_ascii(),
        AddressError::Domain => Reply::new(550, "5.7.1", "relaying denied"),
        _ => Reply::new(553, "5.1.3", "no address of this form is served"),
    }
}

/// The command for smtp-proto, which wraps around at large sizes, and all parameters, once they are looked at.
fn without_size(text: &str, known: &[&str]) -> Result<(String, Vec<Parameter>), Reply> {
    let Some((_, after)) = path_and_parameters(text) else {
        // smtp-proto says what is wrong.
        return Ok((text.to_owned(), Vec::new()));
    };
    let parameters = known_parameters(after, known)?;
    let mut kept = text.strip_suffix(after).unwrap_or(text).to_owned();
    for Parameter { name, written, .. } in &parameters {
        if name != "SIZE" {
            kept.push(' ');
            kept.push_str(written);
        }
    }
    Ok((kept, parameters))
}

/// What stands between the angle brackets, and what follows them.
fn path_and_parameters(argument: &str) -> Option<(&str, &str)> {
    let (_, rest) = argument.split_once('<')?;
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, c) in rest.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => {
                let (path, after) = rest.split_at_checked(at)?;
                return Some((path, after.strip_prefix('>')?));
            }
            _ => {}
        }
    }
    None
}

/// One parameter of MAIL or RCPT.
struct Parameter {
    /// In upper case.
    name: String,
    value: String,
    /// As it was written.
    written: String,
}

/// The parameters: all of them known, none of them twice.
fn known_parameters(text: &str, known: &[&str]) -> Result<Vec<Parameter>, Reply> {
    let mut found: Vec<Parameter> = Vec::new();
    for written in text.split(' ').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = written.split_once('=').unwrap_or((written, ""));
        let name = name.to_ascii_uppercase();
        if !known.contains(&name.as_str()) {
            return Err(unknown_parameter());
        }
        if found.iter().any(|other| other.name == name) {
            return Err(bad_argument("a parameter is given twice"));
        }
        found.push(Parameter {
            name,
            value: value.to_owned(),
            written: written.to_owned(),
        });
    }
    Ok(found)
}

/// More than 64 bits hold is more than any limit.
fn size_of(value: &str) -> Result<u64, Reply> {
    let is_number = (1..=MAX_SIZE_DIGITS).contains(&value.len())
        && value.bytes().all(|octet| octet.is_ascii_digit());
    if is_number {
        Ok(value.parse().unwrap_or(u64::MAX))
    } else {
        Err(bad_argument("SIZE is a number of octets"))
    }
}

/// A domain name or an address literal in its form, whatever stands behind it (RX-3).
fn helo_name(argument: &str) -> Result<String, Reply> {
    let name = argument.trim();
    if name.len() <= MAX_HELO_BYTES && (is_address_literal(name) || is_host_name(name)) {
        Ok(name.to_owned())
    } else {
        Err(bad_argument(
            "a domain name or an address literal is needed",
        ))
    }
}

fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.split('.').all(|label| {
        // An underscore is no letter of a host name, but many a machine is called so.
        let is_letter = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(is_letter)
    })
}

fn is_address_literal(name: &str) -> bool {
    let inner = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| match inner.split_at_checked("IPv6:".len()) {
        Some((tag, address)) if tag.eq_ignore_ascii_case("IPv6:") => {
            address.parse::<Ipv6Addr>().is_ok()
        }
        _ => inner.parse::<Ipv4Addr>().is_ok(),
    })
}

pub(super) fn too_long() -> Reply {
    Reply::new(500, "5.5.2", "the command line is too long")
}

fn bad_argument(text: &'static str) -> Reply {
    Reply::new(501, "5.5.4", text)
}

fn bad_sender() -> Reply {
    Reply::new(
        501,
        "5.1.7",
        "MAIL FROM:<address> or MAIL FROM:<> is needed",
    )
}

fn bad_recipient() -> Reply {
    Reply::new(501, "5.1.3", "RCPT TO:<address> is needed")
}

pub(super) fn not_ascii() -> Reply {
    Reply::new(553, "5.6.7", "only US-ASCII is served in this address")
}

fn unknown_parameter() -> Reply {
    Reply::new(555, "5.5.4", "a parameter is not known here")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(text: &str) -> DirectAddress {
        text.parse().unwrap()
    }

    fn code(line: &str) -> String {
        match read(line.as_bytes()) {
            Ok(command) => panic!("{line:?} was taken: {command:?}"),
            Err(reply) => format!("{} {}", reply.code, reply.enhanced.unwrap()),
        }
    }

    // rule: RX-4
    #[test]
    fn verbs_are_read_in_any_case() {
        for (line, command) in [
            (
                "ehlo mx.elm.example",
                Command::Ehlo("mx.elm.example".to_owned()),
            ),
            ("HeLo [192.0.2.1]", Command::Helo("[192.0.2.1]".to_owned())),
            ("data", Command::Data),
            ("RSET ", Command::Rset),
            ("noop", Command::Noop),
            ("NOOP any words", Command::Noop),
            ("Quit", Command::Quit),
            ("StartTLS", Command::StartTls),
            ("VRFY ada", Command::Vrfy),
            ("EXPN staff", Command::NotOffered),
            ("HELP", Command::NotOffered),
            ("EXPN", Command::NotOffered),
            ("BDAT 12 LAST", Command::NotOffered),
            ("AUTH PLAIN", Command::NotOffered),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(command), "{line}");
        }
    }

    // rule: RX-3, RX-4, RX-5, TLS-4
    #[test]
    fn a_command_that_is_not_of_its_form_is_refused() {
        for line in [
            "",
            "GET / HTTP/1.1",
            "MAILFROM:<>",
            "XCLIENT a=b",
            "NOOPS",
            "NO\tOP",
        ] {
            assert_eq!(code(line), "500 5.5.2", "{line:?}");
        }
        assert_eq!(
            code(&format!("NOOP {}", "x".repeat(506))),
            "500 5.5.2",
            "513 octets"
        );
        assert!(read(format!("NOOP {}", "x".repeat(505)).as_bytes()).is_ok());
        assert!(read(b"NOOP \xff").is_err() && read(b"NOOP a\0b").is_err());
        for line in [
            "EHLO",
            "HELO",
            "EHLO a b",
            "EHLO a..b",
            "EHLO <x>",
            "EHLO [300.1.1.1]",
            "EHLO [IPv6:z]",
            "DATA now",
            "RSET all",
            "QUIT it",
            "STARTTLS now",
            "VRFY",
            "MAIL FROM:<> SIZE=ten",
            "MAIL FROM:<> SIZE=1 SIZE=2",
            "MAIL FROM:<> SIZE=",
            "MAIL FROM:<> BODY=9BIT",
            "MAIL FROM:<> SIZE=111111111111111111111",
            "RCPT TO:<a@b.example> NOTIFY=PERHAPS",
            "RCPT TO:<a@b.example> ORCPT=rfc822;a+0D+0Ab",
        ] {
            assert_eq!(code(line), "501 5.5.4", "{line:?}");
        }
        for line in [
            "EHLO [IPv6:2001:db8::1]",
            "EHLO localhost",
            "EHLO my_host.example.",
        ] {
            assert!(read(line.as_bytes()).is_ok(), "{line}");
        }
    }

    // rule: RX-20, RX-21
    #[test]
    fn a_sender_is_read_with_its_parameters() {
        let read_mail = |line: &str| match read(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{line}: {other:?}"),
        };
        let null = read_mail("MAIL FROM:<>");
        assert_eq!((null.from, null.size, null.is_utf8), (None, None, false));
        let ada = Some(address("ada.quill@direct.elm.example"));
        for line in [
            "MAIL FROM:<ada.quill@direct.elm.example> SIZE=12 BODY=8BITMIME SMTPUTF8",
            "mail from: <ada.quill@direct.elm.example> smtputf8 size=12",
            "MAIL FROM:<@a.example,@b.example:ada.quill@direct.elm.example> SIZE=12 SMTPUTF8 RET=HDRS ENVID=7",
            "MAIL FROM:<\"ada.quill\"@direct.elm.example> SIZE=12 SMTPUTF8",
        ] {
            let mail = read_mail(line);
            assert_eq!(
                (mail.from, mail.size, mail.is_utf8),
                (ada.clone(), Some(12), true)
            );
        }
        let huge = read_mail("MAIL FROM:<> SIZE=99999999999999999999");
        assert_eq!(huge.size, Some(u64::MAX));
    }

    // rule: RX-21, RX-22
    #[test]
    fn a_sender_that_is_no_address_and_a_parameter_that_was_not_offered_are_refused() {
        for line in [
            "MAIL",
            "MAIL FROM",
            "MAIL FROM:ada@b.example",
            "MAIL FROM:<ada",
            "MAIL FROM:<ada>",
            "MAIL FROM:<postmaster>",
            "MAIL FROM:<ada@[192.0.2.1]>",
            "MAIL FROM:<a b@c.example>",
            "MAIL FROM:<ada@single>",
            "MAIL FROM:<ada@@c.example>",
            "MAIL TO:<ada@b.example>",
        ] {
            assert_eq!(code(line), "501 5.1.7", "{line:?}");
        }
        let long = format!("MAIL FROM:<{}@b.example>", "x".repeat(65));
        assert_eq!(code(&long), "501 5.1.7");
        for line in [
            "MAIL FROM:<> AUTH=<>",
            "MAIL FROM:<> BODY=BINARYMIME",
            "MAIL FROM:<> REQUIRETLS",
            "MAIL FROM:<> BY=3;R",
            "MAIL FROM:<> COLOUR=red",
            "MAIL FROM:<> HOLDFOR=0",
            "RCPT TO:<a@b.example> SIZE=1",
            "RCPT TO:<a@b.example> RRVS=x",
        ] {
            assert_eq!(code(line), "555 5.5.4", "{line:?}");
        }
        assert_eq!(code("MAIL FROM:<ad\u{e9}@b.example>"), "553 5.6.7");
        assert_eq!(code("MAIL FROM:<ad\u{e9}@b.example> SMTPUTF8"), "553 5.6.7");
        assert_eq!(code("MAIL FROM:<ada@b\u{fc}cher.example>"), "553 5.6.7");
        assert!(read("MAIL FROM:<ada@b\u{fc}cher.example> SMTPUTF8".as_bytes()).is_ok());
    }

    // rule: RX-6, RX-24, RX-25, RX-28
    #[test]
    fn a_recipient_is_read_as_rfc_5321_says() {
        let to = |line: &str| match read(line.as_bytes()) {
            Ok(Command::Rcpt(rcpt)) => rcpt,
            other => panic!("{line}: {other:?}"),
        };
        let ngozi = Some(address("ngozi@direct.harbor.example"));
        assert_eq!(to("RCPT TO:<ngozi@direct.harbor.example>").to, ngozi);
        assert_eq!(
            to("RCPT TO:<@x.example:ngozi@direct.harbor.example>").to,
            ngozi
        );
        assert_eq!(to("RCPT TO:<PostMaster>").to, None);
        let percent = to("RCPT TO:<user%x.example@direct.harbor.example>").to;
        assert_eq!(percent.unwrap().local(), "user%x.example");
        let original = to(
            "RCPT TO:<ngozi@direct.harbor.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;n+2Bo@old.example",
        );
        assert_eq!(original.original.as_deref(), Some("n+o@old.example"));
        for line in [
            "RCPT TO:<>",
            "RCPT TO:<user>",
            "RCPT TO:ngozi@b.example",
            "RCPT TO:<a@b@c.example>",
        ] {
            assert_eq!(code(line), "501 5.1.3", "{line:?}");
        }
        assert_eq!(code("RCPT TO:<ngozi@[127.0.0.1]>"), "501 5.1.3");
        assert_eq!(code("RCPT TO:<ngozi@single>"), "550 5.7.1");
        assert_eq!(code("RCPT TO:<\"n o\"@direct.harbor.example>"), "553 5.1.3");
        assert_eq!(
            code("RCPT TO:<\u{144}gozi@direct.harbor.example>"),
            "553 5.6.7"
        );
        assert!(to("RCPT TO:<ngozi@h\u{e4}fen.example>").needs_utf8);
        let long = format!("RCPT TO:<{}@direct.harbor.example>", "x".repeat(65));
        assert_eq!(code(&long), "553 5.1.3");
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&line);
        }

        #[test]
        fn no_argument_makes_it_panic(
            verb in prop::sample::select(vec!["MAIL FROM:", "RCPT TO:", "EHLO ", "BDAT ", "AUTH "]),
            rest in "[<>@:,\"\\\\ a=;+.\u{e9}0-9A-Z]{0,60}",
        ) {
            let _ = read(format!("{verb}{rest}").as_bytes());
        }
    }
}
