//! Who may come in: so many connections in all, so many from one address, so many a minute (RX-9).

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::settings::SmtpServerConfig;
use crate::flows::measures;

/// The span over which connections of one address are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// Addresses that are remembered; when so many came within a minute, a new one waits for the next.
const MAX_ADDRESSES: usize = 16 * 1024;

/// Counts connections.
pub(super) struct Doors {
    max_open: usize,
    max_per_address: usize,
    max_per_minute: u32,
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    open: usize,
    by_address: HashMap<IpAddr, Visits>,
}

struct Visits {
    open: usize,
    minute_began: Instant,
    in_minute: u32,
}

/// A connection's place; dropped, it is free again.
pub(super) struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Address,
    Rate,
}

impl Full {
    /// A fixed word for the metrics.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
            Self::Rate => "rate",
        }
    }
}

impl Doors {
    pub(super) fn new(config: &SmtpServerConfig) -> Self {
        Self {
            max_open: config.max_connections,
            max_per_address: config.max_connections_per_address,
            max_per_minute: config.max_sessions_per_minute,
            guests: Mutex::default(),
        }
    }

    /// Lets a connection in, or says why not.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, now: Instant) -> Result<Place, Full> {
        let address = network_of(peer);
        let mut guests = self.lock();
        if guests.open >= self.max_open {
            return Err(Full::All);
        }
        if guests.by_address.len() >= MAX_ADDRESSES && !guests.by_address.contains_key(&address) {
            guests.by_address.retain(|_, visits| {
                visits.open > 0 || now.saturating_duration_since(visits.minute_began) < MINUTE
            });
            if guests.by_address.len() >= MAX_ADDRESSES {
                return Err(Full::All);
            }
        }
        let visits = guests.by_address.entry(address).or_insert(Visits {
            open: 0,
            minute_began: now,
            in_minute: 0,
        });
        if now.saturating_duration_since(visits.minute_began) >= MINUTE {
            visits.minute_began = now;
            visits.in_minute = 0;
        }
        if visits.open >= self.max_per_address {
            return Err(Full::Address);
        }
        if visits.in_minute >= self.max_per_minute {
            return Err(Full::Rate);
        }
        visits.open += 1;
        visits.in_minute += 1;
        guests.open += 1;
        metrics::gauge!(measures::SMTP_CONNECTIONS).increment(1);
        Ok(Place {
            doors: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        // Nothing in here panics half-way through a change.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.doors.lock();
        guests.open = guests.open.saturating_sub(1);
        metrics::gauge!(measures::SMTP_CONNECTIONS).decrement(1);
        if let Some(visits) = guests.by_address.get_mut(&self.address) {
            visits.open = visits.open.saturating_sub(1);
        }
    }
}

/// An IPv6 peer has 64 bits of addresses to choose from: they count as one.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doors(max_connections: usize, per_address: usize, per_minute: u32) -> Arc<Doors> {
        Arc::new(Doors::new(&SmtpServerConfig {
            max_connections,
            max_connections_per_address: per_address,
            max_sessions_per_minute: per_minute,
            ..SmtpServerConfig::default()
        }))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    // rule: RX-9
    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let (doors, now) = (doors(3, 2, 100), Instant::now());
        let first = doors.admit(ip("192.0.2.1"), now).unwrap();
        let _second = doors.admit(ip("::ffff:192.0.2.1"), now).unwrap();
        assert_eq!(doors.admit(ip("192.0.2.1"), now).err(), Some(Full::Address));
        let _third = doors.admit(ip("192.0.2.2"), now).unwrap();
        assert_eq!(doors.admit(ip("192.0.2.3"), now).err(), Some(Full::All));
        assert_eq!(doors.lock().open, 3);
        drop(first);
        assert!(doors.admit(ip("192.0.2.1"), now).is_ok());
    }

    // rule: RX-9
    #[test]
    fn connections_of_a_minute_are_counted_though_they_have_ended() {
        let (doors, now) = (doors(10, 10, 2), Instant::now());
        for _ in 0..2 {
            drop(doors.admit(ip("192.0.2.1"), now).unwrap());
        }
        assert_eq!(doors.admit(ip("192.0.2.1"), now).err(), Some(Full::Rate));
        assert!(doors.admit(ip("192.0.2.2"), now).is_ok());
        assert!(doors.admit(ip("192.0.2.1"), now + MINUTE).is_ok());
    }

    // rule: RX-9
    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let (doors, now) = (doors(10, 1, 100), Instant::now());
        let _held = doors.admit(ip("2001:db8:1:2::1"), now).unwrap();
        assert!(doors.admit(ip("2001:db8:1:2:ffff::9"), now).is_err());
        assert!(doors.admit(ip("2001:db8:1:3::1"), now).is_ok());
    }

    // rule: RX-9, T-26
    #[test]
    fn a_flood_of_addresses_is_remembered_within_bounds() {
        let (doors, now) = (doors(10, 10, 10), Instant::now());
        for number in 0..MAX_ADDRESSES as u32 {
            drop(doors.admit(IpAddr::V4(number.into()), now).unwrap());
        }
        assert_eq!(doors.admit(ip("192.0.2.1"), now).err(), Some(Full::All));
        assert!(doors.admit(ip("192.0.2.1"), now + MINUTE).is_ok());
        assert_eq!(doors.lock().by_address.len(), 1);
    }
}
