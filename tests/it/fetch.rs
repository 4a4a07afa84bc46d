//! What others published under a URL is fetched from real servers on loopback, which `fetch.permit` alone opens; what an
//! attacker makes of a URL, a name or an answer is refused for what it is (threats.md T-14).

use std::{
    fs,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use xdbridge::{
    adapters::{
        dns::{DnsAddresses, config::DnsConfig, resolver},
        fetch::{FetchConfig, HttpFetcher},
    },
    bridge::fetch_target::TargetFault,
    flows::{
        guard::{Guard, NotAdmitted},
        ports::{Fetch, FetchBody, FetchError, FetchRequest, Fetched, FindAddresses, NoAddresses},
    },
};

use crate::support::{
    dns_server::{DnsServer, Zone},
    folder::TestFolder,
    tls::Identity,
    wait_until,
    web::{Page, Web},
};

/// Names that lead to one address at the first question, and to another at each later one.
struct Rebinding {
    addresses: [IpAddr; 2],
    asked: AtomicUsize,
}

#[async_trait]
impl FindAddresses for Rebinding {
    async fn addresses(&self, _: &str) -> Result<Vec<IpAddr>, NoAddresses> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(vec![self.addresses[asked.min(1)]])
    }
}

fn rebinding(addresses: [&str; 2]) -> Arc<Rebinding> {
    Arc::new(Rebinding {
        addresses: addresses.map(|address| address.parse().unwrap()),
        asked: AtomicUsize::new(0),
    })
}

fn fetcher(hosts: Arc<dyn FindAddresses>, config: FetchConfig) -> HttpFetcher {
    HttpFetcher::new(&config, Guard::new(hosts, config.permit.clone())).unwrap()
}

fn permitting(places: &[String]) -> FetchConfig {
    FetchConfig {
        permit: places.iter().map(|place| place.parse().unwrap()).collect(),
        public_cas: false,
        ..FetchConfig::default()
    }
}

fn request(url: impl Into<String>) -> FetchRequest {
    FetchRequest {
        url: url.into(),
        what: Fetched::Issuer,
        post: None,
        limit: Duration::from_secs(60),
    }
}

/// A fetcher that may go to this server.
fn to(web: &Web) -> HttpFetcher {
    let config = permitting(&[web.address().to_string()]);
    fetcher(rebinding(["127.0.0.1"; 2]), config)
}

fn refused(fault: TargetFault) -> Result<Vec<u8>, FetchError> {
    Err(FetchError::NotAdmitted(NotAdmitted::Target(fault)))
}

fn of_address(address: &str) -> Result<Vec<u8>, FetchError> {
    refused(TargetFault::Address(address.parse().unwrap()))
}

// rule: T-14
#[tokio::test]
async fn octets_come_whole_whatever_they_are_called_by_get_and_by_post() {
    let web = Web::start();
    web.put("/a?b=c", Page::Octets(vec![7; 3_000]));
    web.put(
        "/made",
        Page::Made(Arc::new(|body| [b"of ", body].concat())),
    );
    let fetcher = to(&web);
    let fetched = fetcher.fetch(request(web.url("/a?b=c"))).await.unwrap();
    assert_eq!(fetched, [7; 3_000]);
    let post = FetchRequest {
        post: Some(FetchBody {
            content_type: "application/ocsp-request",
            octets: b"question".to_vec(),
        }),
        ..request(web.url("/made"))
    };
    assert_eq!(fetcher.fetch(post).await.unwrap(), b"of question");
}

// rule: T-14
#[tokio::test]
async fn no_url_leads_to_loopback_to_private_networks_or_to_files_unless_it_is_permitted() {
    let web = Web::start();
    web.put("/x", Page::Octets(vec![1]));
    let nothing = fetcher(rebinding(["127.0.0.1"; 2]), permitting(&[]));
    let port = web.address().port();
    // Nobody permitted the port, which is told before the address.
    let fetched = nothing.fetch(request(web.url("/x"))).await;
    assert_eq!(fetched, refused(TargetFault::Port(port)));
    for (url, address) in [
        ("http://127.0.0.1/x", "127.0.0.1"),
        ("https://127.1/x", "127.0.0.1"),
        ("http://[::1]/x", "::1"),
        ("http://10.0.0.1/x", "10.0.0.1"),
        ("http://192.168.0.1/x", "192.168.0.1"),
        ("http://169.254.169.254/latest/meta-data", "169.254.169.254"),
        ("http://[::ffff:10.0.0.1]/x", "::ffff:10.0.0.1"),
        ("http://[fd00::1]/x", "fd00::1"),
        ("http://0.0.0.0/x", "0.0.0.0"),
        ("http://ca.example/x", "127.0.0.1"),
        ("http://localhost/x", "127.0.0.1"),
    ] {
        assert_eq!(
            nothing.fetch(request(url)).await,
            of_address(address),
            "{url}"
        );
    }
    for url in [
        "file:///etc/passwd",
        "gopher://ca.example/x",
        "ldap://ca.example/x",
    ] {
        let scheme = url.split(':').next().unwrap().to_owned();
        let fetched = nothing.fetch(request(url)).await;
        assert_eq!(fetched, refused(TargetFault::Scheme(scheme)), "{url}");
    }
    assert_eq!(web.seen(), Vec::<String>::new());
}

// rule: T-14
#[tokio::test]
async fn a_name_is_looked_up_once_by_ourselves_and_the_connection_goes_where_that_led() {
    let inner = Web::start_at("127.0.0.1:0");
    let port = inner.address().port();
    // The same port at another address: what the judged name led to.
    let outer = Web::start_at(&format!("127.0.0.2:{port}"));
    outer.put("/x", Page::Octets(b"outer".to_vec()));
    inner.put("/x", Page::Octets(b"inner".to_vec()));
    let hosts = rebinding(["127.0.0.2", "127.0.0.1"]);
    let permit = permitting(&[format!("127.0.0.2:{port}")]);
    let fetcher = fetcher(hosts.clone(), permit);
    let url = outer.url_at("rebinding.example", "/x");
    assert_eq!(fetcher.fetch(request(&url)).await.unwrap(), b"outer");
    assert_eq!(hosts.asked.load(Ordering::SeqCst), 1);
    // Asked anew, it leads to where nothing is permitted.
    let fetched = fetcher.fetch(request(&url)).await;
    assert_eq!(fetched, refused(TargetFault::Port(port)));
    assert_eq!(inner.seen(), Vec::<String>::new());
}

// rule: T-14
#[tokio::test]
async fn names_are_asked_of_the_name_servers_of_the_settings() {
    let web = Web::start();
    web.put("/x", Page::Octets(b"found".to_vec()));
    let zone = Zone::default()
        .cname("ca.example", "host.example")
        .a("host.example", "127.0.0.1")
        .a("inside.example", "10.0.0.1")
        .fails("failing.example");
    let server = DnsServer::start(zone).await;
    let config = DnsConfig {
        servers: vec![server.address],
        timeout: Duration::from_secs(2),
        attempts: 1,
    };
    let hosts = Arc::new(DnsAddresses::new(resolver(&config).unwrap()));
    let permit = permitting(&[format!("ca.example:{}", web.address().port())]);
    let fetcher = fetcher(hosts, permit);
    let fetched = fetcher.fetch(request(web.url_at("CA.example", "/x"))).await;
    assert_eq!(fetched.unwrap(), b"found");
    let fetched = fetcher.fetch(request("http://inside.example/x")).await;
    assert_eq!(fetched, of_address("10.0.0.1"));
    let absent = fetcher.fetch(request("http://absent.example/x")).await;
    assert!(!absent.unwrap_err().is_transient());
    let failing = fetcher.fetch(request("http://failing.example/x")).await;
    assert!(failing.unwrap_err().is_transient());
}

// rule: T-14
#[tokio::test]
async fn no_redirect_is_followed_wherever_it_leads() {
    let web = Web::start();
    let other = Web::start();
    other.put("/x", Page::Octets(vec![1]));
    for to in [&other.url("/x"), "file:///etc/passwd", "/here"] {
        web.put("/moved", Page::Redirect(to.to_owned()));
        web.put("/here", Page::Octets(vec![2]));
        let config = permitting(&[web.address().to_string(), other.address().to_string()]);
        let fetcher = fetcher(rebinding(["127.0.0.1"; 2]), config);
        let fetched = fetcher.fetch(request(web.url("/moved"))).await;
        assert_eq!(fetched, Err(FetchError::Redirected { status: 302 }), "{to}");
    }
    assert_eq!(other.seen(), Vec::<String>::new());
    assert_eq!(web.seen(), ["/moved"; 3]);
}

// rule: T-14, TA-7
#[tokio::test]
async fn what_is_too_large_endless_or_silent_ends_at_its_limit() {
    let web = Web::start();
    web.put("/announced", Page::Announced(1 << 30));
    web.put("/endless", Page::Endless);
    web.put("/silent", Page::Silent);
    web.put("/stalled", Page::Stalled);
    web.put("/gone", Page::Status(404));
    web.put("/busy", Page::Status(503));
    let fetcher = to(&web);
    let max_bytes = Fetched::Issuer.max_bytes();
    for page in ["/announced", "/endless"] {
        let fetched = fetcher.fetch(request(web.url(page))).await;
        assert_eq!(fetched, Err(FetchError::TooLarge { max_bytes }), "{page}");
    }
    let limit = Duration::from_millis(300);
    for page in ["/silent", "/stalled"] {
        let hurried = FetchRequest {
            limit,
            ..request(web.url(page))
        };
        let fetched = fetcher.fetch(hurried).await;
        assert_eq!(fetched, Err(FetchError::TimedOut { limit }), "{page}");
    }
    for (page, status, is_transient) in [("/gone", 404, false), ("/busy", 503, true)] {
        let error = fetcher.fetch(request(web.url(page))).await.unwrap_err();
        assert_eq!(error, FetchError::Status { status });
        assert_eq!(error.is_transient(), is_transient);
    }
}

// rule: T-14, T-26
#[tokio::test(flavor = "multi_thread")]
async fn one_host_that_hangs_takes_its_own_places_alone_and_never_more_than_all() {
    let slow = Web::start();
    slow.put("/silent", Page::Silent);
    let quick = Web::start();
    quick.put("/x", Page::Octets(vec![1]));
    let fetcher = |max_at_once| {
        let config = FetchConfig {
            max_at_once,
            max_at_once_per_host: 1,
            ..permitting(&[slow.address().to_string(), quick.address().to_string()])
        };
        Arc::new(fetcher(rebinding(["127.0.0.1"; 2]), config))
    };
    for (places, is_other_served) in [(2, true), (1, false)] {
        let fetcher = fetcher(places);
        let before = slow.seen().len();
        let hanging = tokio::spawn({
            let (fetcher, url) = (Arc::clone(&fetcher), slow.url("/silent"));
            async move { fetcher.fetch(request(url)).await }
        });
        let slow = &slow;
        tokio::task::block_in_place(|| {
            wait_until("the server is asked", || slow.seen().len() > before);
        });
        let same = fetcher.fetch(request(slow.url("/silent"))).await;
        assert_eq!(same, Err(FetchError::Busy));
        let other = fetcher.fetch(request(quick.url("/x"))).await;
        assert_eq!(other.is_ok(), is_other_served, "{other:?}");
        hanging.abort();
    }
}

// rule: T-14, T-19b
#[tokio::test]
async fn https_is_believed_only_of_a_server_that_a_configured_ca_vouches_for() {
    let ca = Identity::ca("Web CA");
    let folder = TestFolder::new();
    let ca_file = folder.path().join("ca.pem");
    fs::write(&ca_file, ca.certificate_pem()).unwrap();
    let stranger = Identity::ca("Other CA");
    for (server, ca_files, is_believed) in [
        (ca.issue("ca.example"), vec![ca_file.clone()], true),
        (ca.issue("other.example"), vec![ca_file.clone()], false),
        (stranger.issue("ca.example"), vec![ca_file.clone()], false),
        (ca.issue("ca.example"), Vec::new(), false),
    ] {
        let web = Web::secure(&server);
        web.put("/x", Page::Octets(vec![1]));
        let port = web.address().port();
        let config = FetchConfig {
            ca_files,
            ..permitting(&[format!("ca.example:{port}")])
        };
        let fetcher = fetcher(rebinding(["127.0.0.1"; 2]), config);
        let url = format!("https://ca.example:{port}/x");
        let fetched = fetcher.fetch(request(url)).await;
        assert_eq!(fetched.is_ok(), is_believed, "{fetched:?}");
    }
}
