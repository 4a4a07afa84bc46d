//! What each command is answered with: a pure function over the state of a session. No socket, no clock, no flow.

use std::sync::Arc;

use super::{
    command::{self, Command, MailFrom, RcptTo},
    reply::{self, Reply},
    settings::TlsIn,
};
use crate::{
    flows::ports::{MailRecipient, OriginalRecipient, RecipientAnswer},
    formats::ids::{DirectAddress, DomainName},
};

/// Refused recipients that are answered at once; further ones are made to wait (RX-9).
const PROMPT_REFUSALS: usize = 3;

/// What holds for every session.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) host: String,
    pub(super) tls: TlsIn,
    /// Empty: everybody may send.
    pub(super) senders: Vec<DomainName>,
    pub(super) max_errors: u32,
    pub(super) max_message_bytes: u64,
    pub(super) max_recipients: usize,
}

/// What a session asks its surroundings, and is answered at once.
pub(super) trait Surroundings {
    /// Whether a mail of so many octets would be taken now: it fits into the byte budget, and no budget of room is used up.
    fn has_room(&self, bytes: u64) -> bool;
    /// Whether the domain is one of ours.
    fn serves(&self, domain: &DomainName) -> bool;
}

/// One session's state.
pub(super) struct Session {
    rules: Arc<Rules>,
    is_own_host: bool,
    is_tls: bool,
    hello: Option<Hello>,
    mail: Option<Mail>,
    errors: u32,
    refused_recipients: usize,
    refused_senders: usize,
}

/// Who greeted us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) name: String,
    /// EHLO, not HELO.
    pub(super) is_extended: bool,
}

/// An envelope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) from: Option<DirectAddress>,
    pub(super) recipients: Vec<MailRecipient>,
    is_utf8: bool,
    has_refused: bool,
}

#[cfg(test)]
impl Mail {
    /// The envelope of a notice.
    pub(super) fn to(recipients: impl Iterator<Item = DirectAddress>) -> Self {
        let recipients = recipients.map(|address| MailRecipient::Address {
            address,
            original: None,
        });
        Self {
            from: None,
            recipients: recipients.collect(),
            is_utf8: false,
            has_refused: false,
        }
    }
}

/// What happens next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Say(Reply),
    /// After the tarpit's delay.
    SayLate(Reply),
    /// The last word, and why.
    Close(Reply, &'static str),
    /// 220, then the handshake.
    StartTls(Reply),
    /// The flow is asked; [`Session::answered`] says what to do.
    Ask(DirectAddress, Option<String>),
    /// 354, and the mail comes.
    Data,
}

impl Session {
    /// A session in clear. `is_own_host`: the peer may send as one of our domains.
    pub(super) fn new(rules: Arc<Rules>, is_own_host: bool) -> Self {
        Self {
            rules,
            is_own_host,
            is_tls: false,
            hello: None,
            mail: None,
            errors: 0,
            refused_recipients: 0,
            refused_senders: 0,
        }
    }

    /// After the handshake nothing of what was said in clear counts (RX-10).
    pub(super) fn tls_started(&mut self) {
        self.is_tls = true;
        self.hello = None;
        self.mail = None;
    }

    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    pub(super) fn is_in_mail(&self) -> bool {
        self.mail.is_some()
    }

    /// Senders and recipients that were refused so far, for the audit.
    pub(super) fn refused(&self) -> (usize, usize) {
        (self.refused_senders, self.refused_recipients)
    }

    /// The envelope, which the session forgets: the mail's data decides on it.
    pub(super) fn take_mail(&mut self) -> Option<Mail> {
        self.mail.take()
    }

    /// What a command line is answered with.
    pub(super) fn take(
        &mut self,
        command: Result<Command, Reply>,
        around: &dyn Surroundings,
    ) -> Step {
        let command = match command {
            Ok(command) => command,
            Err(reply) => return self.refuse(reply),
        };
        let is_allowed_in_clear = matches!(
            command,
            Command::Ehlo(_)
                | Command::Helo(_)
                | Command::Noop
                | Command::Quit
                | Command::StartTls
                | Command::NotOffered
        );
        if !self.is_tls && self.rules.tls == TlsIn::Require && !is_allowed_in_clear {
            return self.refuse(Reply::new(
                530,
                "5.7.0",
                "Must issue a STARTTLS command first",
            ));
        }
        match command {
            Command::Ehlo(name) => self.greet(name, true),
            Command::Helo(name) => self.greet(name, false),
            Command::Mail(mail) => self.begin(mail, around),
            Command::Rcpt(rcpt) => self.add(rcpt, around),
            Command::Data => self.data(),
            Command::Rset => {
                self.mail = None;
                Step::Say(Reply::new(250, "2.0.0", "forgotten"))
            }
            Command::Noop => Step::Say(Reply::new(250, "2.0.0", "done")),
            Command::Quit => Step::Close(Reply::new(221, "2.0.0", "bye"), "quit"),
            Command::StartTls if self.is_tls => {
                self.refuse(reply::out_of_order("TLS is in use already"))
            }
            Command::StartTls => Step::StartTls(Reply::new(220, "2.0.0", "ready for TLS")),
            Command::Vrfy => Step::Say(Reply::new(252, "2.5.0", "send mail to find out")),
            Command::NotOffered => self.refuse(Reply::new(502, "5.5.1", "not offered here")),
        }
    }

    fn greet(&mut self, name: String, is_extended: bool) -> Step {
        self.mail = None;
        self.hello = Some(Hello { name, is_extended });
        let mut lines = vec![self.rules.host.clone().into()];
        if is_extended {
            lines.extend([
                "PIPELINING".into(),
                format!("SIZE {}", self.rules.max_message_bytes).into(),
                "8BITMIME".into(),
                "SMTPUTF8".into(),
                "ENHANCEDSTATUSCODES".into(),
            ]);
            if !self.is_tls {
                lines.push("STARTTLS".into());
            }
        }
        Step::Say(Reply::plain(250, lines))
    }

    fn begin(&mut self, mail: MailFrom, around: &dyn Surroundings) -> Step {
        if self.hello.is_none() {
            return self.refuse(reply::out_of_order("EHLO or HELO comes first"));
        }
        if self.mail.is_some() {
            return self.refuse(reply::out_of_order("a mail is begun already"));
        }
        if mail
            .size
            .is_some_and(|size| size > self.rules.max_message_bytes)
        {
            return Step::Say(reply::too_large(self.rules.max_message_bytes));
        }
        if let Some(from) = &mail.from
            && let Some(reply) = self.unwelcome(from.domain(), around)
        {
            self.refused_senders += 1;
            return self.refuse(reply);
        }
        if !around.has_room(mail.size.unwrap_or(0)) {
            return Step::Say(reply::no_room());
        }
        self.mail = Some(Mail {
            from: mail.from,
            recipients: Vec::new(),
            is_utf8: mail.is_utf8,
            has_refused: false,
        });
        Step::Say(Reply::new(250, "2.1.0", "sender ok"))
    }

    /// Why a domain may not send (RX-23).
    fn unwelcome(&self, domain: &DomainName, around: &dyn Surroundings) -> Option<Reply> {
        if around.serves(domain) {
            let reply = Reply::new(550, "5.7.1", "this domain is sent for by this host alone");
            return (!self.is_own_host).then_some(reply);
        }
        let is_listed = self.rules.senders.is_empty() || self.rules.senders.contains(domain);
        (!is_listed).then(|| Reply::new(550, "5.7.1", "this domain may not send here"))
    }

    fn add(&mut self, rcpt: RcptTo, around: &dyn Surroundings) -> Step {
        let Some(mail) = &self.mail else {
            return self.refuse(reply::out_of_order("MAIL comes first"));
        };
        if mail.recipients.len() >= self.rules.max_recipients {
            return Step::Say(Reply::new(452, "4.5.3", "too many recipients"));
        }
        let Some(address) = rcpt.to else {
            return self.take_recipient(MailRecipient::Postmaster);
        };
        if rcpt.needs_utf8 && !mail.is_utf8 {
            return self.refuse_recipient(command::not_ascii());
        }
        if !around.serves(address.domain()) {
            return self.refuse_recipient(Reply::new(550, "5.7.1", "relaying denied"));
        }
        if address.local().eq_ignore_ascii_case("postmaster") {
            return self.take_recipient(MailRecipient::Postmaster);
        }
        Step::Ask(address, rcpt.original)
    }

    /// What the flow's answer about a recipient leads to.
    pub(super) fn answered(
        &mut self,
        address: DirectAddress,
        original: Option<String>,
        answer: RecipientAnswer,
    ) -> Step {
        match answer {
            RecipientAnswer::Served => self.take_recipient(MailRecipient::Address {
                address,
                original: original.map(OriginalRecipient),
            }),
            RecipientAnswer::Unknown => {
                self.refuse_recipient(Reply::new(550, "5.1.1", "no such address"))
            }
            RecipientAnswer::Unconfigured => Step::Say(Reply::new(
                451,
                "4.3.5",
                "this address cannot be served now",
            )),
            RecipientAnswer::Unavailable => Step::Say(reply::unavailable()),
        }
    }

    fn take_recipient(&mut self, recipient: MailRecipient) -> Step {
        if let Some(mail) = &mut self.mail {
            let is_same = |other: &MailRecipient| match (other, &recipient) {
                (
                    MailRecipient::Address { address: a, .. },
                    MailRecipient::Address { address: b, .. },
                ) => a == b,
                (MailRecipient::Postmaster, MailRecipient::Postmaster) => true,
                _ => false,
            };
            if !mail.recipients.iter().any(is_same) {
                mail.recipients.push(recipient);
            }
        }
        Step::Say(Reply::new(250, "2.1.5", "recipient ok"))
    }

    fn refuse_recipient(&mut self, reply: Reply) -> Step {
        if let Some(mail) = &mut self.mail {
            mail.has_refused = true;
        }
        self.refused_recipients += 1;
        if self.refused_recipients > self.rules.max_recipients {
            return too_many_errors();
        }
        if self.refused_recipients > PROMPT_REFUSALS {
            return Step::SayLate(reply);
        }
        Step::Say(reply)
    }

    fn data(&mut self) -> Step {
        match &self.mail {
            None => self.refuse(reply::out_of_order("MAIL and RCPT come first")),
            Some(mail) if !mail.recipients.is_empty() => Step::Data,
            Some(mail) if mail.has_refused => {
                self.refuse(Reply::new(554, "5.5.1", "no valid recipients"))
            }
            Some(_) => self.refuse(reply::out_of_order("RCPT comes first")),
        }
    }

    /// A protocol error: counted (RX-9).
    pub(super) fn refuse(&mut self, reply: Reply) -> Step {
        self.errors += 1;
        if self.errors > self.rules.max_errors {
            return too_many_errors();
        }
        Step::Say(reply)
    }
}

fn too_many_errors() -> Step {
    Step::Close(Reply::new(421, "4.7.0", "too many errors"), "errors")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Serves `harbor.example`, and has room for 1000 octets.
    struct Harbor;

    impl Surroundings for Harbor {
        fn has_room(&self, bytes: u64) -> bool {
            bytes <= 1000
        }

        fn serves(&self, domain: &DomainName) -> bool {
            domain.as_str() == "harbor.example"
        }
    }

    fn rules() -> Rules {
        Rules {
            host: "bridge.harbor.example".to_owned(),
            tls: TlsIn::Require,
            senders: Vec::new(),
            max_errors: 10,
            max_message_bytes: 5000,
            max_recipients: 100,
        }
    }

    fn in_clear() -> Session {
        Session::new(Arc::new(rules()), false)
    }

    /// Under TLS, after EHLO.
    fn greeted(rules: Rules) -> Session {
        let mut session = Session::new(Arc::new(rules), false);
        session.tls_started();
        said(&mut session, "EHLO mx.elm.example");
        session
    }

    /// Code and enhanced code of the answer to a line. The flow serves everybody but `nobody`.
    fn said(session: &mut Session, line: &str) -> String {
        let step = match session.take(command::read(line.as_bytes()), &Harbor) {
            Step::Ask(address, original) => {
                let answer = match address.local() {
                    "nobody" => RecipientAnswer::Unknown,
                    "later" => RecipientAnswer::Unavailable,
                    "keyless" => RecipientAnswer::Unconfigured,
                    _ => RecipientAnswer::Served,
                };
                session.answered(address, original, answer)
            }
            step => step,
        };
        match step {
            Step::Say(reply) => words(&reply),
            Step::SayLate(reply) => format!("late {}", words(&reply)),
            Step::Close(reply, _) => format!("close {}", words(&reply)),
            Step::StartTls(reply) => format!("tls {}", words(&reply)),
            Step::Data => "data".to_owned(),
            Step::Ask(..) => "asks twice".to_owned(),
        }
    }

    fn words(reply: &Reply) -> String {
        match reply.enhanced {
            Some(enhanced) => format!("{} {enhanced}", reply.code),
            None => reply.code.to_string(),
        }
    }

    /// Each line with its answer, in order.
    fn check(session: &mut Session, dialogue: &[(&str, &str)]) {
        for (line, answer) in dialogue {
            assert_eq!(said(session, line), *answer, "{line}");
        }
    }

    fn ehlo_lines(session: &mut Session) -> String {
        match session.take(Ok(Command::Ehlo("x".to_owned())), &Harbor) {
            Step::Say(reply) => {
                let mut out = Vec::new();
                reply.write(&mut out);
                String::from_utf8(out).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    // rule: RX-2, TLS-2
    #[test]
    fn ehlo_lists_what_is_offered_and_starttls_only_before_tls() {
        let mut session = in_clear();
        assert_eq!(
            ehlo_lines(&mut session),
            "250-bridge.harbor.example\r\n250-PIPELINING\r\n250-SIZE 5000\r\n250-8BITMIME\r\n\
             250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 STARTTLS\r\n"
        );
        session.tls_started();
        let lines = ehlo_lines(&mut session);
        assert!(lines.ends_with("250 ENHANCEDSTATUSCODES\r\n"));
        for never in ["AUTH", "VRFY", "CHUNKING", "DSN", "REQUIRETLS", "STARTTLS"] {
            assert!(!lines.contains(never), "{never}");
        }
        assert_eq!(said(&mut session, "HELO x.example"), "250", "no extensions");
    }

    // rule: TLS-2, RX-4, T-16
    #[test]
    fn before_tls_nothing_but_greeting_and_starttls_is_served() {
        let mut session = in_clear();
        check(
            &mut session,
            &[
                ("EHLO mx.elm.example", "250"),
                ("MAIL FROM:<>", "530 5.7.0"),
                ("RCPT TO:<a@harbor.example>", "530 5.7.0"),
                ("DATA", "530 5.7.0"),
                ("RSET", "530 5.7.0"),
                ("VRFY a", "530 5.7.0"),
                ("NOOP", "250 2.0.0"),
                ("HELO mx.elm.example", "250"),
                ("STARTTLS", "tls 220 2.0.0"),
                ("QUIT", "close 221 2.0.0"),
            ],
        );
    }

    // rule: RX-10, TLS-4
    #[test]
    fn tls_forgets_what_was_said_before_and_begins_once() {
        let mut session = Session::new(
            Arc::new(Rules {
                tls: TlsIn::May,
                ..rules()
            }),
            false,
        );
        check(
            &mut session,
            &[
                ("EHLO mx.elm.example", "250"),
                ("MAIL FROM:<>", "250 2.1.0"),
                ("RCPT TO:<a@harbor.example>", "250 2.1.5"),
            ],
        );
        session.tls_started();
        assert_eq!(session.hello(), None);
        check(
            &mut session,
            &[
                ("DATA", "503 5.5.1"),
                ("MAIL FROM:<>", "503 5.5.1"),
                ("STARTTLS", "503 5.5.1"),
                ("EHLO mx.elm.example", "250"),
                ("MAIL FROM:<>", "250 2.1.0"),
            ],
        );
    }

    // rule: RX-4, RX-20, RX-40
    #[test]
    fn commands_out_of_order_are_refused_and_change_nothing() {
        let mut session = Session::new(Arc::new(rules()), false);
        session.tls_started();
        check(
            &mut session,
            &[
                ("MAIL FROM:<>", "503 5.5.1"),
                ("EHLO mx.elm.example", "250"),
                ("RCPT TO:<a@harbor.example>", "503 5.5.1"),
                ("DATA", "503 5.5.1"),
                ("MAIL FROM:<>", "250 2.1.0"),
                ("MAIL FROM:<>", "503 5.5.1"),
                ("DATA", "503 5.5.1"),
                ("RCPT TO:<nobody@harbor.example>", "550 5.1.1"),
                ("DATA", "554 5.5.1"),
                ("RCPT TO:<a@harbor.example>", "250 2.1.5"),
                ("DATA", "data"),
            ],
        );
    }

    // rule: RX-10
    #[test]
    fn rset_and_a_new_greeting_forget_the_mail() {
        for forget in ["RSET", "EHLO mx.elm.example", "HELO mx.elm.example"] {
            let mut session = greeted(rules());
            said(&mut session, "MAIL FROM:<a@elm.example>");
            said(&mut session, "RCPT TO:<a@harbor.example>");
            said(&mut session, forget);
            check(
                &mut session,
                &[("DATA", "503 5.5.1"), ("MAIL FROM:<>", "250 2.1.0")],
            );
        }
    }

    // rule: RX-4
    #[test]
    fn vrfy_tells_nothing_and_the_other_questions_are_not_offered() {
        let mut session = greeted(rules());
        check(
            &mut session,
            &[
                ("VRFY ada", "252 2.5.0"),
                ("EXPN staff", "502 5.5.1"),
                ("HELP", "502 5.5.1"),
                ("BDAT 3 LAST", "502 5.5.1"),
                ("AUTH PLAIN", "502 5.5.1"),
            ],
        );
    }

    // rule: RX-21, LIM-1, LIM-17
    #[test]
    fn a_declared_size_is_held_against_the_limit_and_the_room_there_is() {
        let mut session = greeted(rules());
        check(
            &mut session,
            &[
                ("MAIL FROM:<> SIZE=5001", "552 5.3.4"),
                ("MAIL FROM:<> SIZE=5000", "452 4.3.1"),
                ("MAIL FROM:<> SIZE=1000", "250 2.1.0"),
            ],
        );
    }

    // rule: RX-23
    #[test]
    fn our_domains_do_not_come_from_outside_and_a_list_of_senders_is_kept_to() {
        let mut session = greeted(Rules {
            senders: vec!["elm.example".parse().unwrap()],
            ..rules()
        });
        check(
            &mut session,
            &[
                ("MAIL FROM:<a@harbor.example>", "550 5.7.1"),
                ("MAIL FROM:<a@oak.example>", "550 5.7.1"),
                ("MAIL FROM:<a@elm.example>", "250 2.1.0"),
                ("RSET", "250 2.0.0"),
                ("MAIL FROM:<>", "250 2.1.0"),
            ],
        );
        let mut own = Session::new(Arc::new(rules()), true);
        own.tls_started();
        check(
            &mut own,
            &[
                ("EHLO split.harbor.example", "250"),
                ("MAIL FROM:<a@harbor.example>", "250 2.1.0"),
            ],
        );
    }

    // rule: RX-24, RX-25, T-18
    #[test]
    fn a_recipient_is_served_refused_or_deferred_and_nobody_is_relayed_to() {
        let mut session = greeted(rules());
        check(
            &mut session,
            &[
                ("MAIL FROM:<a@elm.example>", "250 2.1.0"),
                ("RCPT TO:<a@oak.example>", "550 5.7.1"),
                ("RCPT TO:<@harbor.example:a@oak.example>", "550 5.7.1"),
                ("RCPT TO:<later@harbor.example>", "451 4.3.0"),
                ("RCPT TO:<keyless@harbor.example>", "451 4.3.5"),
                ("RCPT TO:<nobody@harbor.example>", "550 5.1.1"),
                ("RCPT TO:<a%oak.example@harbor.example>", "250 2.1.5"),
                (
                    "RCPT TO:<ADA@harbor.example> ORCPT=rfc822;old@x.example",
                    "250 2.1.5",
                ),
                ("RCPT TO:<ada@HARBOR.example>", "250 2.1.5"),
                ("RCPT TO:<postmaster>", "250 2.1.5"),
                ("RCPT TO:<Postmaster@harbor.example>", "250 2.1.5"),
                ("RCPT TO:<postmaster@oak.example>", "late 550 5.7.1"),
            ],
        );
        let mail = session.take_mail().unwrap();
        let address = |text: &str, original: Option<&str>| MailRecipient::Address {
            address: text.parse().unwrap(),
            original: original.map(|text| OriginalRecipient(text.to_owned())),
        };
        assert_eq!(
            mail.recipients,
            [
                address("a%oak.example@harbor.example", None),
                address("ada@harbor.example", Some("old@x.example")),
                MailRecipient::Postmaster,
            ],
            "each once"
        );
    }

    // rule: RX-22
    #[test]
    fn a_domain_outside_ascii_needs_smtputf8() {
        let mut session = greeted(rules());
        check(
            &mut session,
            &[
                ("MAIL FROM:<a@elm.example>", "250 2.1.0"),
                ("RCPT TO:<a@h\u{e4}fen.example>", "553 5.6.7"),
                ("RSET", "250 2.0.0"),
                ("MAIL FROM:<a@elm.example> SMTPUTF8", "250 2.1.0"),
                ("RCPT TO:<a@h\u{e4}fen.example>", "550 5.7.1"),
            ],
        );
    }

    // rule: RX-6, RX-27, LIM-9
    #[test]
    fn a_hundred_recipients_are_taken_and_the_excess_alone_is_put_off() {
        let mut session = greeted(rules());
        said(&mut session, "MAIL FROM:<>");
        for number in 0..100 {
            let line = format!("RCPT TO:<a{number}@harbor.example>");
            assert_eq!(said(&mut session, &line), "250 2.1.5", "{line}");
        }
        let excess = said(&mut session, "RCPT TO:<one@harbor.example>");
        assert_eq!(excess, "452 4.5.3");
        assert_eq!(said(&mut session, "DATA"), "data");
        assert_eq!(session.take_mail().unwrap().recipients.len(), 100);
    }

    // rule: RX-9
    #[test]
    fn the_eleventh_protocol_error_ends_the_session() {
        let mut session = greeted(rules());
        for _ in 0..10 {
            assert_eq!(said(&mut session, "WHAT"), "500 5.5.2");
        }
        assert_eq!(said(&mut session, "DATA"), "close 421 4.7.0");
    }

    // rule: RX-9, RX-26, T-19
    #[test]
    fn who_tries_address_after_address_waits_and_is_sent_away() {
        let mut session = greeted(rules());
        said(&mut session, "MAIL FROM:<>");
        let answers: Vec<String> = (0..101)
            .map(|_| said(&mut session, "RCPT TO:<nobody@harbor.example>"))
            .collect();
        assert!(answers[..3].iter().all(|answer| answer == "550 5.1.1"));
        assert!(
            answers[3..100]
                .iter()
                .all(|answer| answer == "late 550 5.1.1")
        );
        assert_eq!(answers[100], "close 421 4.7.0");
    }

    /// Lines that mean something, and some that do not.
    const LINES: [&str; 20] = [
        "EHLO mx.elm.example",
        "HELO mx.elm.example",
        "EHLO ..",
        "MAIL FROM:<>",
        "MAIL FROM:<a@elm.example> SIZE=900",
        "MAIL FROM:<a@elm.example> SIZE=9000",
        "MAIL FROM:<a@harbor.example>",
        "MAIL FROM:<a b>",
        "RCPT TO:<ada@harbor.example>",
        "RCPT TO:<nobody@harbor.example>",
        "RCPT TO:<later@harbor.example>",
        "RCPT TO:<a@oak.example>",
        "RCPT TO:<postmaster>",
        "DATA",
        "RSET",
        "NOOP",
        "VRFY a",
        "STARTTLS",
        "BDAT 1",
        "WHAT",
    ];

    proptest! {
        // rule: RX-4, RX-40, TLS-2
        #[test]
        fn no_order_of_commands_leads_to_data_without_tls_greeting_sender_and_recipient(
            lines in prop::collection::vec(prop::sample::select(LINES.to_vec()), 0..60),
        ) {
            let mut session = Session::new(
                Arc::new(Rules {
                    max_errors: 1000,
                    ..rules()
                }),
                false,
            );
            // What a careful reader of the replies knows: TLS, greeted, sender taken, recipients taken.
            let (mut tls, mut greeted, mut sender, mut recipients) = (false, false, false, 0);
            for line in lines {
                let said = said(&mut session, line);
                let is_taken = said.starts_with("250");
                match line.split([' ', ':']).next().unwrap_or_default() {
                    "EHLO" | "HELO" if is_taken => (greeted, sender, recipients) = (true, false, 0),
                    "MAIL" if is_taken => {
                        prop_assert!(tls && greeted && !sender);
                        sender = true;
                    }
                    "RCPT" if is_taken => {
                        prop_assert!(sender);
                        recipients += 1;
                    }
                    "RSET" if is_taken => (sender, recipients) = (false, 0),
                    "STARTTLS" if said.starts_with("tls") => {
                        prop_assert!(!tls);
                        session.tls_started();
                        (tls, greeted, sender, recipients) = (true, false, false, 0);
                    }
                    "DATA" if said == "data" => {
                        prop_assert!(tls && greeted && sender && recipients > 0);
                        prop_assert!(session.take_mail().is_some());
                        (sender, recipients) = (false, 0);
                    }
                    _ => prop_assert!(!is_taken || line == "NOOP", "{} {}", line, said),
                }
                // RFC 2034 §4: the enhanced code is of the reply's class.
                let mut words = said.trim_start_matches(|c: char| !c.is_ascii_digit()).split(' ');
                if let (Some(code), Some(enhanced)) = (words.next(), words.next()) {
                    prop_assert_eq!(code.chars().next(), enhanced.chars().next());
                }
            }
        }
    }
}
