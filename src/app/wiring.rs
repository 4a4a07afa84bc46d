//! The only place that picks concrete adapters: makes a running bridge of a configuration.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use tracing::{error, info, warn};

use super::{config::Config, crl_watch, expiry_watch, http_thread::HttpThread};
use crate::{
    adapters::{
        certificates::CertificateFiles,
        control::{ControlListener, ControlPath},
        dns::{
            self, CertQuestions, DnsAddresses, DnsCertificates, DnsLdapServers, DnsMailHosts,
            config::DnsConfig,
        },
        fetch::HttpFetcher,
        ldap::{LdapCertificates, LdapQuestions, LdapSettings},
        operator::{Measured, OperatorFiles, OperatorListener, OperatorParts},
        smtp_client::SmtpClient,
        smtp_server::{SmtpListener, SmtpParts, SmtpServer, SmtpServerConfig},
        soap_client::{Endpoint, SoapClient},
        soap_server::{Parts, SoapCertificates, SoapListener, by_certificate},
        store::{self, PostmasterKeeper, PostmasterLimits, Store},
    },
    bridge::{
        destination::Destinations,
        endpoint::XdrEndpoints,
        partner::Partners,
        routing::Routes,
        status,
        trust::{FetchedMaterial, Fetches},
    },
    flows::{
        budget::ByteBudget,
        cpu::CpuPool,
        directory::Directory,
        edge_reports::EdgeReports,
        effects::Effects,
        guard::Guard,
        keyed::KeyedPlaces,
        material::Material,
        operators::Operators,
        outbox::Outbox,
        ports::{
            Audit, Bodies, Clock, Exchanges, Fetch, FindCertificates, MeasureRoom, OwnDomains,
            PostXdr, Readiness, SendMail,
        },
        report::Reports,
        room::RoomWatch,
        to_direct::{Readings, SubmissionsUnderWay, ToDirect},
        to_xdr::ToXdr,
    },
    formats::audit::{AuditKind, AuditOutcome, AuditRecord},
};

/// A task that ends with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A bridge at work. [`Bridge::stop`] drains it; dropped, it ends as after a crash, which loses nothing.
pub struct Bridge {
    xdr_address: SocketAddr,
    operator_address: SocketAddr,
    xdr_certificates: SoapCertificates,
    operator_files: OperatorFiles,
    posts: Arc<SoapClient>,
    xdr: HttpThread,
    operator: HttpThread,
    control: HttpThread,
    _control_path: ControlPath,
    mail: Option<SmtpServer>,
    stop: watch::Sender<bool>,
    outbox: AbortOnDrop,
    _crl_watch: AbortOnDrop,
    _room_watch: AbortOnDrop,
    _expiry_watch: AbortOnDrop,
    drain_timeout: Duration,
    smtp: Arc<SmtpClient>,
    certificates: Arc<CertificateFiles>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Bridge {
    /// Opens the store, binds the listeners and starts the workers. Returns once requests are served.
    pub async fn start(
        config: &Config,
        clock: Arc<dyn Clock>,
        measured: Measured,
    ) -> anyhow::Result<Self> {
        let now = clock.now();
        let fetched = Some(fetched(config));
        let certificates = CertificateFiles::load_with(config.certificates.clone(), fetched, now)
            .map_err(|problems| all_problems(&problems))
            .context("certificates")?;
        let certificates = Arc::new(certificates);
        for warning in certificates.warnings() {
            tracing::warn!(warning, "{warning}");
        }
        let partners =
            Partners::read(&config.partner).map_err(|problems| all_problems(&problems))?;
        let partners = Arc::new(partners);
        let endpoints =
            XdrEndpoints::read(&config.endpoint).map_err(|problems| all_problems(&problems))?;
        let endpoints = Arc::new(endpoints);
        let posts = Arc::new(soap_client(config, &endpoints, &partners, &clock)?);
        let posted = Arc::clone(&posts);
        let routes = Routes::read(&config.route).map_err(|problems| all_problems(&problems))?;
        let destinations = Destinations::read(config.delivery.mail_policy(), &config.destination)
            .map_err(|problems| all_problems(&problems))?;
        let store = store::open(&config.store, Arc::clone(&clock), &config.node.name)
            .await
            .context("store")?;
        let smtp = Arc::new(smtp_client(config, &clock)?);
        let budget = ByteBudget::new(config.limits.max_bytes_in_flight);
        let exchanges: Arc<dyn Exchanges> = store.clone();
        let room_watch = RoomWatch::new(
            store.clone() as Arc<dyn MeasureRoom>,
            config.store.room.clone(),
        );
        // Before anybody can hand over anything.
        room_watch.look().await;
        let room = room_watch.room();
        let cpu = CpuPool::start().context("CPU threads")?;
        let mut to_direct = ToDirect {
            clock: Arc::clone(&clock),
            store: Arc::clone(&exchanges),
            bodies: store.clone() as Arc<dyn Bodies>,
            directory: directory(config, &certificates, &cpu, &clock)?,
            own_domains: certificates.clone() as Arc<dyn OwnDomains>,
            endpoints: Arc::clone(&endpoints),
            mail: smtp.clone() as Arc<dyn SendMail>,
            cpu: cpu.clone(),
            limits: Arc::new(config.limits.clone()),
            settings: Arc::new(config.delivery.clone()),
            timers: Arc::new(config.timers.clone()),
            destinations: Arc::new(destinations),
            routes: Arc::new(routes),
            institution: Arc::new(config.institution.clone()),
            patient_ids: config.audit.patient_id,
            patient_id_key: store.keyed_hash("audit patient id"),
            edges: Arc::new(EdgeReports {
                clock: Arc::clone(&clock),
                store: Arc::clone(&exchanges),
                endpoints: Arc::clone(&endpoints),
                limits: Arc::new(config.limits.clone()),
            }),
            look_ups: Arc::default(),
            under_way: SubmissionsUnderWay::new(1),
            readings: Readings::default(),
        };

        let receiver = match &config.smtp.server {
            Some(server) => {
                let posts = posts.clone() as Arc<dyn PostXdr>;
                let audit = store.clone() as Arc<dyn Audit>;
                let to_xdr = to_xdr(config, server, &to_direct, posts, &partners, &budget, audit)?;
                let to_xdr = Arc::new(to_xdr);
                // What is for our own domains it takes itself; the rest goes on to the next hop.
                to_direct.mail = to_xdr.clone();
                Some((server, to_xdr))
            }
            None => None,
        };
        let to_direct = Arc::new(to_direct);
        let mail_listener = match &receiver {
            Some((server, to_xdr)) => {
                let parts = SmtpParts {
                    mail: to_xdr.clone(),
                    audit: store.clone() as Arc<dyn Audit>,
                    budget: budget.clone(),
                    room: room.clone(),
                    clock: Arc::clone(&clock),
                };
                Some(SmtpListener::bind(server, &config.limits, parts)?)
            }
            None => None,
        };
        let reports = Reports {
            clock: Arc::clone(&clock),
            store: Arc::clone(&exchanges),
            bodies: store.clone() as Arc<dyn Bodies>,
            partners: Arc::clone(&partners),
            sources: Arc::new(config.sources.clone()),
            posts: posts as Arc<dyn PostXdr>,
            limits: Arc::clone(&to_direct.limits),
        };
        let listener = SoapListener::bind(
            &config.soap.server,
            &config.limits,
            Parts {
                xdr: to_direct.clone(),
                flows: Handle::current(),
                identify: by_certificate(partners),
                audit: store.clone() as Arc<dyn Audit>,
                budget: budget.clone(),
                room,
                clock: Arc::clone(&clock),
            },
        )?;
        let operators = Arc::new(Operators {
            store: Arc::clone(&exchanges),
            audit: store.clone(),
            clock: Arc::clone(&clock),
        });
        let mut readiness = vec![store.clone() as Arc<dyn Readiness>];
        readiness.extend(room_watch.parts());
        let operator = OperatorListener::bind(
            &config.operator,
            OperatorParts {
                operators: operators.clone(),
                readiness,
                measured,
                budget,
                flows: Handle::current(),
            },
        )?;
        let control = config.control.path(&config.store.path);
        let (control, control_path) =
            ControlListener::bind(&control, operators, Handle::current())?;
        let (xdr_address, operator_address) = (listener.address(), operator.address());
        let (xdr_certificates, operator_files) = (listener.certificates(), operator.files());

        let (stop, stopping) = watch::channel(false);
        let outbox = Arc::new(Outbox {
            store: Arc::clone(&exchanges),
            effects: Arc::new(Effects {
                to_direct,
                to_xdr: receiver.map(|(_, to_xdr)| to_xdr),
                reports: Arc::new(reports),
                store: Arc::clone(&exchanges),
                clock: Arc::clone(&clock),
            }),
            clock: Arc::clone(&clock),
            wake: exchanges.due_changed(),
            workers: config.delivery.workers,
            lease: config.delivery.lease,
            longest_effect: config.delivery.longest_effect(),
        });
        store
            .record(application(&clock, "start"))
            .await
            .context("audit")?;
        let outbox = AbortOnDrop(tokio::spawn(outbox.run(stopping)));
        let crl_watch = crl_watch::run(
            Arc::clone(&certificates),
            Arc::clone(&clock),
            config.certificates.crl_refresh,
        );
        let crl_watch = AbortOnDrop(tokio::spawn(crl_watch));
        let room_watch = AbortOnDrop(tokio::spawn(room_watch.run()));
        let expiry_watch = expiry_watch::run(
            expiry_watch::files(config),
            Arc::clone(&certificates),
            Arc::clone(&clock),
        );
        let expiry_watch = AbortOnDrop(tokio::spawn(expiry_watch));
        let xdr = HttpThread::start("xdr", move || listener.into_server())?;
        let operator = HttpThread::start("operator", move || operator.into_server())?;
        let control = HttpThread::start("control", move || control.into_server())?;
        let mail = mail_listener
            .map(SmtpListener::serve)
            .transpose()
            .context("smtp.server")?;
        if let Some(mail) = &mail {
            let address = mail.address();
            info!(smtp = %address, "listening for mail on {address}");
        }
        info!(xdr = %xdr_address, operator = %operator_address, "listening for XDR on {xdr_address}, for operators on {operator_address}");
        Ok(Self {
            xdr_address,
            operator_address,
            xdr_certificates,
            operator_files,
            posts: posted,
            xdr,
            operator,
            control,
            _control_path: control_path,
            mail,
            stop,
            outbox,
            _crl_watch: crl_watch,
            _room_watch: room_watch,
            _expiry_watch: expiry_watch,
            drain_timeout: config.delivery.drain_timeout,
            smtp,
            certificates,
            store,
            clock,
        })
    }

    /// Where XDR is served.
    pub fn xdr_address(&self) -> SocketAddr {
        self.xdr_address
    }

    /// Where operators are answered.
    pub fn operator_address(&self) -> SocketAddr {
        self.operator_address
    }

    /// Where mail is received, if it is.
    pub fn smtp_address(&self) -> Option<SocketAddr> {
        self.mail.as_ref().map(SmtpServer::address)
    }

    /// The store, for questions.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Reads keys, anchors and recipients' certificates anew, what the listeners show and whom they let in, what endpoints
    /// are shown, and the operators' tokens. If any of it cannot be read, nothing changes: the problems are told, and what was loaded before
    /// stays.
    pub fn reload_certificates(&self) -> Result<(), Vec<String>> {
        let shown = self.mail.as_ref().map(SmtpServer::read_certificate);
        let mut problems = Vec::new();
        let shown = shown
            .transpose()
            .map_err(|problem| problems.push(format!("smtp.server: {problem}")));
        let xdr = self.xdr_certificates.read();
        let xdr = xdr.map_err(|problem| problems.push(problem.to_string()));
        let operator = self.operator_files.read();
        let operator = operator.map_err(|problem| problems.push(problem.to_string()));
        let posts = self.posts.read_identity();
        let posts = posts.map_err(|problem| problems.push(problem.to_string()));
        let (Ok(shown), Ok(xdr), Ok(operator), Ok(posts)) = (shown, xdr, operator, posts) else {
            return Err(problems);
        };
        self.certificates
            .reload(self.clock.now())
            .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        if let (Some(mail), Some(shown)) = (&self.mail, shown) {
            mail.use_certificate(shown);
        }
        self.xdr_certificates.replace(xdr);
        self.operator_files.replace(operator);
        self.posts.use_identity(posts);
        Ok(())
    }

    /// Takes no more requests, lets those under way and the effects under way end, and closes the store.
    pub async fn stop(self) -> anyhow::Result<()> {
        let receiving = async {
            if let Some(mail) = self.mail {
                mail.stop().await;
            }
        };
        let (served, ()) = tokio::join!(self.xdr.drain(), receiving);
        served.context("the XDR listener")?;
        // Nobody listens any more only if the workers have ended by themselves.
        let _ = self.stop.send(true);
        let mut outbox = self.outbox;
        match tokio::time::timeout(self.drain_timeout, &mut outbox.0).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => error!(
                alarm = "panic",
                error = &failure as &dyn std::error::Error,
                "the outbox's workers ended early"
            ),
            // What is broken off is repeated at the next start, under the same ids.
            Err(_) => warn!("deliveries that are under way are broken off"),
        }
        drop(outbox);
        self.smtp.close().await;
        self.operator
            .drain()
            .await
            .context("the operator listener")?;
        self.control.drain().await.context("the control socket")?;
        self.store
            .record(application(&self.clock, "stop"))
            .await
            .context("audit")?;
        self.store.close().await;
        Ok(())
    }
}

/// Where certificates are looked for: files, then the DNS, then LDAP servers, in both the address before the domain
/// (DISC-1, DISC-4).
pub(in crate::app) fn directory(
    config: &Config,
    files: &Arc<CertificateFiles>,
    cpu: &CpuPool,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Directory> {
    let mut sources = vec![Arc::clone(files) as Arc<dyn FindCertificates>];
    let discovery = &config.discovery;
    let settings = DnsConfig {
        servers: config.dns.servers.clone(),
        timeout: discovery.dns_timeout,
        attempts: discovery.dns_attempts,
    };
    if discovery.dns {
        let questions = CertQuestions::new(&settings, Arc::clone(clock)).context("dns")?;
        let questions = Arc::new(questions);
        sources.push(Arc::new(DnsCertificates::of_addresses(questions.clone())));
        sources.push(Arc::new(DnsCertificates::of_domains(questions)));
    }
    if discovery.ldap {
        let servers = DnsLdapServers::new(&settings).context("dns")?;
        let hosts = DnsAddresses::new(dns::resolver(&settings).context("dns")?);
        let settings = LdapSettings {
            connect_timeout: discovery.ldap_connect_timeout,
            timeout: discovery.ldap_timeout,
            permit: discovery.ldap_permit.clone(),
        };
        let questions = LdapQuestions::new(
            Arc::new(servers),
            Arc::new(hosts),
            settings,
            Arc::clone(clock),
        );
        let questions = Arc::new(questions);
        sources.push(Arc::new(LdapCertificates::of_addresses(questions.clone())));
        sources.push(Arc::new(LdapCertificates::of_domains(questions)));
    }
    let directory = Directory::new(sources, cpu.clone(), Arc::clone(clock));
    let Some(fetched) = files.fetched() else {
        return Ok(directory);
    };
    let fetch: Arc<dyn Fetch> = Arc::new(fetcher(config)?);
    let material = Material::new(fetch, Arc::clone(fetched), Arc::clone(clock));
    Ok(directory.fetching(material))
}

/// What is fetched from the URLs in certificates, as far as the settings want it.
pub(in crate::app) fn fetched(config: &Config) -> Arc<FetchedMaterial> {
    Arc::new(FetchedMaterial::new(Fetches {
        issuers: config.fetch.issuers,
        revocation: config.fetch.revocation,
    }))
}

/// Fetches from URLs of others, behind the guard.
fn fetcher(config: &Config) -> anyhow::Result<HttpFetcher> {
    let resolver = dns::resolver(&config.dns).context("dns")?;
    let hosts = Arc::new(DnsAddresses::new(resolver));
    let guard = Guard::new(hosts, config.fetch.permit.clone());
    HttpFetcher::new(&config.fetch, guard).context("fetch")
}

/// Posts to the endpoints, and to where partners take outcomes.
fn soap_client(
    config: &Config,
    endpoints: &XdrEndpoints,
    partners: &Partners,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<SoapClient> {
    let posted = endpoints.all().iter().map(|endpoint| Endpoint {
        name: endpoint.name.clone(),
        url: endpoint.url.clone(),
        is_idempotent: endpoint.idempotent,
    });
    let told = partners.iter().filter_map(|partner| {
        Some(Endpoint {
            name: status::target_of(&partner.name),
            url: partner.status_endpoint.clone()?,
            // A repetition bears the same ids and octets (STS-3).
            is_idempotent: true,
        })
    });
    let known: Vec<Endpoint> = posted.chain(told).collect();
    let clock = Arc::clone(clock);
    match &config.soap.client {
        Some(client) => Ok(SoapClient::new(
            client,
            &known,
            clock,
            config.limits.max_metadata_bytes,
        )?),
        None if known.is_empty() => Ok(SoapClient::without_endpoints(clock)),
        None => anyhow::bail!(
            "soap.client: needed as soon as there is an [[endpoint]] or a partner.status_endpoint"
        ),
    }
}

/// The flow of received mail: it shares with the other direction what both need of the world.
fn to_xdr(
    config: &Config,
    server: &SmtpServerConfig,
    to_direct: &ToDirect,
    posts: Arc<dyn PostXdr>,
    partners: &Arc<Partners>,
    budget: &ByteBudget,
    audit: Arc<dyn Audit>,
) -> anyhow::Result<ToXdr> {
    let first_domain = || config.certificates.domains.first().map(|own| &own.name);
    let host = server.host_name.as_ref().or_else(first_domain);
    Ok(ToXdr {
        clock: Arc::clone(&to_direct.clock),
        store: Arc::clone(&to_direct.store),
        bodies: Arc::clone(&to_direct.bodies),
        own_domains: Arc::clone(&to_direct.own_domains),
        directory: to_direct.directory.clone(),
        look_ups: Arc::clone(&to_direct.look_ups),
        endpoints: Arc::clone(&to_direct.endpoints),
        partners: Arc::clone(partners),
        sources: Arc::new(config.sources.clone()),
        posts,
        mail: Arc::clone(&to_direct.mail),
        cpu: to_direct.cpu.clone(),
        budget: budget.clone(),
        limits: Arc::clone(&to_direct.limits),
        settings: Arc::new(config.notification),
        postmaster: Arc::new(postmaster(config, &to_direct.clock, audit)?),
        receiving: Arc::new(config.receiving.clone()),
        timers: Arc::clone(&to_direct.timers),
        host: host.context("certificates.domains: one at least")?.clone(),
        under_way: KeyedPlaces::new(1),
    })
}

fn postmaster(
    config: &Config,
    clock: &Arc<dyn Clock>,
    audit: Arc<dyn Audit>,
) -> anyhow::Result<PostmasterKeeper> {
    let limits = PostmasterLimits {
        max_per_day: config.receiving.postmaster_max_per_day,
        max_per_peer: config.receiving.postmaster_max_per_peer,
        retention: config.receiving.postmaster_retention,
    };
    PostmasterKeeper::open(&config.store, limits, Arc::clone(clock), audit).context("postmaster")
}

fn smtp_client(config: &Config, clock: &Arc<dyn Clock>) -> anyhow::Result<SmtpClient> {
    let resolver = dns::resolver(&config.dns).context("dns")?;
    let own = config.smtp.client.own_hosts.iter().map(ToString::to_string);
    let own_hosts = own.chain(config.smtp.client.ehlo_name.clone());
    let hosts = Arc::new(DnsMailHosts::new(resolver, own_hosts));
    SmtpClient::new(config.smtp.client.clone(), hosts, Arc::clone(clock)).context("smtp.client")
}

fn application(clock: &Arc<dyn Clock>, event: &str) -> AuditRecord {
    AuditRecord::new(clock.now(), AuditKind::Application, AuditOutcome::Success)
        .with("event", event)
        .with("version", env!("CARGO_PKG_VERSION"))
}

fn all_problems(problems: &[impl ToString]) -> anyhow::Error {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", texts.join("; "))
}
