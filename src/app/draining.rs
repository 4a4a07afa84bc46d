//! Tells load balancers that the node is about to stop, before its listeners do.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use crate::flows::ports::Readiness;

/// Ready until the stop begins: `/readyz` then answers 503 while running requests still end well.
#[derive(Debug, Default)]
pub struct Draining(AtomicBool);

impl Draining {
    /// From now on no new work should be sent here.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }
}

#[async_trait]
impl Readiness for Draining {
    fn part(&self) -> &'static str {
        "node"
    }

    async fn check(&self) -> Result<(), &'static str> {
        if self.0.load(Ordering::Acquire) {
            return Err("stopping");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_node_is_ready_until_its_stop_begins() {
        let draining = Draining::default();
        assert_eq!(draining.check().await, Ok(()));
        draining.begin();
        assert_eq!(draining.check().await, Err("stopping"));
    }
}
