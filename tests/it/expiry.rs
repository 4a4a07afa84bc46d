//! A certificate of our own that ends soon is told in time.

use crate::support::{crossing_ground::Workshop, tls::Identity};

#[test]
fn a_certificate_that_ends_within_thirty_days_is_alarmed_and_the_others_are_measured() {
    let workshop = Workshop::new();
    let ground = workshop.ground();
    // It is valid for 30 days, less the moment that has passed since, which may be none by whole seconds.
    let ending = Identity::ca("Test CA").issue("bridge.harbor.example");
    let (shown, _) = ending.write(&ground.path().join("tls"), "server");
    let bridge = ground.start();
    let line = bridge.wait_for_line(|line| line.contains("\"alarm\":\"certificate_expiring\""));
    assert!(line.contains(shown.to_str().unwrap()), "{line}");
    let own = ground.path().join("direct/domain.pem");
    let days_left = |file: &std::path::Path, measures: &str| -> Option<f64> {
        let name = format!(
            "xdbridge_certificate_days_left{{file=\"{}\"}} ",
            file.display()
        );
        let line = measures.lines().find_map(|line| line.strip_prefix(&name))?;
        line.parse().ok()
    };
    bridge.wait_for_measures(|measures| {
        measures.contains("xdbridge_alarms_total{alarm=\"certificate_expiring\"} 1\n")
            && days_left(&shown, measures).is_some_and(|days| days > 29.0 && days <= 30.0)
            && days_left(&own, measures).is_some_and(|days| days > 300.0)
    });
    bridge.stop();
}
