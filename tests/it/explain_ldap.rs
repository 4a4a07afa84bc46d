//! `xdbridge explain` against OpenLDAP's slapd and BIND for the discovery and hosting cases of LDAP (certificates.md
//! sections 9 and 10), and against a server that does what none should.

use std::net::{SocketAddr, TcpListener};

use openssl::{
    pkcs7::{Pkcs7, Pkcs7Flags},
    stack::Stack,
    x509::X509,
};
use xdbridge::formats::smime::SigningIdentity;

use crate::support::{
    asking::{Asking, address, anna, der, domain, expired, fixed, issue},
    bind::{Bind, ZONE},
    bridge::{pki, runtime},
    dns_server::{DnsServer, Zone},
    ldap_server::{Conduct, LdapServer},
    slapd::{BASE, Slapd, entry},
};

const CERTIFICATE: &str = "userCertificate;binary";

/// An SRV record of the zone: the LDAP server of a case.
fn srv(case: &str, priority: u16, weight: u16, server: SocketAddr) -> String {
    let port = server.port();
    format!("_ldap._tcp.{case} IN SRV {priority} {weight} {port} ldap\n")
}

/// An address that nobody listens at.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn published(mail: &str, identity: &SigningIdentity) -> String {
    entry(mail, CERTIFICATE, &[der(identity)])
}

/// Where `explain` says that a certificate was found.
fn origin(server: SocketAddr, mail: &str) -> String {
    format!("ldap ldap.{ZONE}:{} (mail={mail})", server.port())
}

// rule: DISC-1, DISC-3, LDAP-1, LDAP-2, LDAP-3, LDAP-4, LDAP-5, LDAP-6, LDAP-7, LDAP-9, OB-S1
#[test]
fn each_discovery_case_of_ldap_ends_as_the_certificate_discovery_tool_wants_it() {
    let of_address = |case: &str| issue(&address(&anna(case)));
    let domain_of = |case: &str| format!("{case}.{ZONE}");
    let of_domain = |case: &str| issue(&domain(&domain_of(case)));
    let late_of_address = |case: &str| issue(&expired(address(&anna(case))));
    let late_of_domain = |case: &str| issue(&expired(domain(&domain_of(case))));

    let (mut first, mut second) = (String::new(), String::new());
    // D3: the address's is valid, the domain's is not. D4: the domain's alone.
    let (d3, d4) = (of_address("d3"), of_domain("d4"));
    first += &published(&anna("d3"), &d3);
    first += &published(&domain_of("d3"), &late_of_domain("d3"));
    first += &published(&domain_of("d4"), &d4);
    // D7, D8: one that is not valid, alone.
    first += &published(&anna("d7"), &late_of_address("d7"));
    first += &published(&domain_of("d8"), &late_of_domain("d8"));
    // D10: the server of priority 0 is down.
    let d10 = of_address("d10");
    first += &published(&anna("d10"), &d10);
    // D15: the server of priority 1 has one that is not valid.
    let d15 = of_address("d15");
    first += &published(&anna("d15"), &d15);
    second += &published(&anna("d15"), &late_of_address("d15"));
    // D16: of equal priority, the one of weight 100.
    let (heavy, light) = (of_address("d16"), of_address("d16"));
    first += &published(&anna("d16"), &heavy);
    second += &published(&anna("d16"), &light);
    let (first, second) = (Slapd::serving(&first), Slapd::serving(&second));
    let (a, b) = (first.address(), second.address());

    let mut zone =
        "ldap IN A 127.0.0.1\nd11 IN A 127.0.0.1\n_ldap._tcp.d11x IN SRV 0 0 0 .\n".to_owned();
    for case in ["d3", "d4", "d7", "d8", "d13"] {
        zone += &srv(case, 0, 0, a);
    }
    zone += &srv("d10", 0, 0, nobody());
    zone += &srv("d10", 1, 0, a);
    zone += &srv("d12", 0, 0, nobody());
    zone += &srv("d15", 1, 0, b);
    zone += &srv("d15", 0, 0, a);
    zone += &srv("d16", 0, 0, b);
    zone += &srv("d16", 0, 100, a);
    let bind = Bind::serving(&zone);
    let asking = Asking::at(bind.address());

    asking.assert_chosen(&anna("d3"), &d3, &origin(a, &anna("d3")));
    asking.assert_chosen(&anna("d4"), &d4, &origin(a, &domain_of("d4")));
    let late = "validity: expired (CERT-11)";
    asking.assert_refused(&anna("d7"), "noCertificate", late);
    asking.assert_refused(&anna("d8"), "noCertificate", late);
    asking.assert_chosen(&anna("d10"), &d10, &origin(a, &anna("d10")));
    // D11: no record at all. D13: the server is up, and has no entry. The last: the service is not offered.
    for case in ["d11", "d13", "d11x"] {
        asking.assert_refused(&anna(case), "noCertificate", "no source has a certificate");
    }
    // D12: the only server is down, which may pass.
    let (told, is_served) = asking.told(&anna("d12"));
    assert!(!is_served);
    assert_eq!(told["refusal"]["reason"], "noCertificate");
    assert_eq!(told["refusal"]["may_pass"], true);
    asking.assert_chosen(&anna("d15"), &d15, &origin(a, &anna("d15")));
    asking.assert_chosen(&anna("d16"), &heavy, &origin(a, &anna("d16")));
    // Switched off, it is as if there were no server.
    let mut without = Asking::at(bind.address());
    without.config.discovery.ldap = false;
    without.assert_refused(&anna("d3"), "noCertificate", "no source has a certificate");
}

// rule: LDAP-6, LDAP-8, LDAP-9, DISC-1, DISC-2
#[test]
fn what_a_directory_may_hold_besides_is_used_or_passed_over() {
    let all = |case: &str| issue(&address(&anna(case)));
    // Several values and several entries, of which one serves.
    let heap = all("heap");
    let late = issue(&expired(address(&anna("heap"))));
    let other = issue(&address(&format!("bert@heap.{ZONE}")));
    let mut records = entry(&anna("heap"), CERTIFICATE, &[der(&late), der(&other)]);
    let twin = entry(&anna("heap"), CERTIFICATE, &[der(&heap)]);
    records += &twin.replace("dn: cn=", "dn: sn=");
    // A SignedData that holds nothing but certificates.
    let smime = all("smime");
    let mut chain = Stack::new().unwrap();
    chain.push(pki().authority.certificate.clone()).unwrap();
    let signed = Pkcs7::sign(
        &smime.certificate,
        &smime.key,
        &chain,
        b"",
        Pkcs7Flags::BINARY,
    );
    let values = [signed.unwrap().to_der().unwrap(), b"no SignedData".to_vec()];
    records += &entry(&anna("smime"), "userSMIMECertificate", &values);
    // An address that would find everybody, were it not escaped, and has an entry of its own.
    let star = format!("a*@star.{ZONE}");
    let of_star = issue(&address(&star));
    records += &published(&anna("star"), &all("star"));
    let slapd = Slapd::serving(&records);

    let mut zone = "ldap IN A 127.0.0.1\n".to_owned();
    for case in ["heap", "smime", "star"] {
        zone += &srv(case, 0, 0, slapd.address());
    }
    let bind = Bind::serving(&zone);
    let asking = Asking::at(bind.address());
    let at = |mail: &str| origin(slapd.address(), mail);
    asking.assert_chosen(&anna("heap"), &heap, &at(&anna("heap")));
    asking.assert_chosen(&anna("smime"), &smime, &at(&anna("smime")));
    let (told, _) = asking.told(&anna("smime"));
    let text = told.to_string();
    assert!(
        text.contains("1 entry, 2 certificates; skipped: 1 of userSMIMECertificate"),
        "{told:#}"
    );
    asking.assert_refused(&star, "noCertificate", "no source has a certificate");
    slapd.add(&published(&star, &of_star));
    let escaped = star.replace('*', "\\2a");
    asking.assert_chosen(&star, &of_star, &at(&escaped));
}

// rule: LDAP-7, LDAP-9, OB-R5
#[test]
fn what_cert_ldif_prints_serves_whoever_looks_for_our_addresses() {
    // H3, H4: one address with a certificate of its own and the one that follows it, and the domain's for everybody else.
    let quay = format!("quay.{ZONE}");
    let odd = format!("#o'hara+mail=x~y@{quay}");
    let (of_address, of_domain) = (issue(&address(&odd)), issue(&domain(&quay)));
    let gone = issue(&expired(domain(&quay)));
    let own = Asking::at(nobody()).owning(
        &quay,
        &[
            ("address", &of_address),
            ("domain", &of_domain),
            ("gone", &gone),
        ],
    );
    let records = own.cert(&["ldif"]);
    assert_eq!(records.matches("userCertificate;binary:: ").count(), 2);
    assert!(records.contains("# not published: it has expired\n"));
    assert!(records.lines().all(|line| line.len() <= 76), "{records}");

    // As printed, and below an entry that the directory has already.
    let below = own.cert(&["ldif", "--base", BASE]);
    for printed in [records, below] {
        let slapd = Slapd::serving(&printed);
        let zone = format!(
            "ldap IN A 127.0.0.1\n{}",
            srv("quay", 0, 0, slapd.address())
        );
        let bind = Bind::serving(&zone);
        let asking = Asking::at(bind.address());
        let at = |mail: &str| origin(slapd.address(), mail);
        asking.assert_chosen(&odd, &of_address, &at(&odd));
        asking.assert_chosen(&format!("anna@{quay}"), &of_domain, &at(&quay));
    }
}

/// A bridge that asks `conduct`, which is the only server of the domain `fault.hisp.example`.
struct Fault {
    server: LdapServer,
    asking: Asking,
    _dns: DnsServer,
    _runtime: tokio::runtime::Runtime,
}

impl Fault {
    fn of(conduct: Conduct) -> Self {
        let runtime = runtime();
        let server = runtime.block_on(LdapServer::start(conduct));
        let zone = Zone::default()
            .ldap(
                &format!("fault.{ZONE}"),
                0,
                server.port(),
                "ldap.hisp.example",
            )
            .a("ldap.hisp.example", "127.0.0.1");
        let dns = runtime.block_on(DnsServer::start(zone));
        let asking = Asking::at(dns.address);
        Self {
            server,
            asking,
            _dns: dns,
            _runtime: runtime,
        }
    }

    /// What people are told after the DNS has said that there is no CERT record.
    fn text(&self, named: &[(&str, &X509)]) -> String {
        let text = fixed(&self.asking.text(&anna("fault")), named);
        let text = text.replace(&self.server.port().to_string(), "<port>");
        let before = "? DNS CERT fault.hisp.example.\n  NXDOMAIN: no such name\n";
        let (_, after) = text.split_once(before).unwrap_or_else(|| panic!("{text}"));
        after.to_owned()
    }
}

const SRV: &str =
    "? DNS SRV _ldap._tcp.fault.hisp.example.\n  ldap.hisp.example:<port> (priority 0, weight 0)\n";
const AGAIN: &str = "? LDAP (mail=fault.hisp.example) of fault.hisp.example\n  \
     no answer: none of its servers answered within the last 30 s\n";
const OPEN: &str = "= noCertificate: no usable certificate was found for the address\n  \
     decided by a source did not answer\n  \
     This may pass: a recipient is accepted, and looked up again until timers.queue_lifetime ends.\n";

// rule: LDAP-2, LDAP-5, LDAP-10, DISC-3, DISC-9
#[test]
fn people_are_told_what_a_server_did_that_none_should() {
    let at_once = "? LDAP ldap.hisp.example:<port>\n";
    let at_root = "? LDAP ldap.hisp.example:<port> namingContexts\n";
    let at_search = "? LDAP ldap.hisp.example:<port> namingContexts\n  dc=hisp,dc=example\n\
         ? LDAP ldap.hisp.example:<port> dc=hisp,dc=example (mail=anna@fault.hisp.example)\n";
    for (conduct, step, fault) in [
        (Conduct::Silent, at_once, "has not answered within 5s"),
        (
            Conduct::SilentAtSearch,
            at_root,
            "has not answered within 5s",
        ),
        (Conduct::Trickles, at_root, "has not answered within 5s"),
        (Conduct::Closes, at_root, "closed the connection"),
        (Conduct::Disconnects, at_root, "closed the connection"),
        (
            Conduct::Garbage,
            at_root,
            "sent an answer that is not a message of LDAP (RFC 4511)",
        ),
        (
            Conduct::Deep,
            at_root,
            "sent an answer that is not a message of LDAP (RFC 4511)",
        ),
        (
            Conduct::Endless,
            at_root,
            "sent more than 1048576 octets (LDAP-10)",
        ),
        (
            Conduct::Floods,
            at_search,
            "sent more than the 50 entries that it was asked for (LDAP-10)",
        ),
        (
            Conduct::References,
            at_search,
            "sent more than 50 references (LDAP-10)",
        ),
        (
            Conduct::Refers,
            at_root,
            "names another server, which is not followed (LDAP-10)",
        ),
        (
            Conduct::OtherId,
            at_root,
            "sent something that is no answer to the question",
        ),
        (
            Conduct::NoBases,
            at_root,
            "it names no base to search (LDAP-5)",
        ),
        (
            Conduct::RefusesBind,
            at_once,
            "refused the anonymous bind: inappropriateAuthentication (48)",
        ),
        (Conduct::Busy, at_root, "refused the search: busy (51)"),
    ] {
        let mut ground = Fault::of(conduct.clone());
        if fault.contains("5s") {
            ground.asking.config.discovery.ldap_timeout = std::time::Duration::from_secs(5);
        }
        let expected = format!("{SRV}{step}  no answer: {fault}\n{AGAIN}{OPEN}");
        assert_eq!(ground.text(&[]), expected, "{conduct:?}");
        // The domain's certificate is not asked for in vain.
        assert_eq!(ground.server.connections(), 1);
    }
}

// rule: LDAP-10, T-14
#[test]
fn references_are_passed_over_and_a_server_in_our_own_network_is_not_connected_to() {
    let good = issue(&address(&anna("fault")));
    let named = [("anna's", &good.certificate)];
    let at_search =
        "? LDAP ldap.hisp.example:<port> dc=hisp,dc=example (mail=anna@fault.hisp.example)\n";
    for (conduct, told) in [
        (
            Conduct::Continues(anna("fault"), der(&good)),
            "1 entry, 1 certificate; 1 reference to another server, which is not followed (LDAP-10)",
        ),
        (
            Conduct::CutShort(anna("fault"), der(&good)),
            "1 entry, 1 certificate; the server has more than it may send",
        ),
    ] {
        let text = Fault::of(conduct).text(&named);
        assert!(text.contains(&format!("{at_search}  {told}\n")), "{text}");
        assert!(text.contains("    CHOSEN\n"), "{text}");
    }

    let mut ground = Fault::of(Conduct::Serves(vec![(anna("fault"), der(&good))]));
    ground.asking.config.discovery.ldap_permit.clear();
    let not_asked = "? LDAP ldap.hisp.example:<port>\n  \
         not asked: 127.0.0.1 is no public address, and discovery.ldap_permit lacks it (T-14)\n";
    let cached = SRV.replace(")\n", ") (from the cache)\n");
    let expected = format!(
        "{SRV}{not_asked}{cached}{not_asked}\
         = noCertificate: no usable certificate was found for the address\n  decided by no source has a certificate\n"
    );
    assert_eq!(ground.text(&[]), expected);
    assert_eq!(ground.server.connections(), 0);
}
