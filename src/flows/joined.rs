//! Equal questions that are asked at the same time, asked once.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};

/// Questions that are being asked. Whoever asks one of them waits for the answer that is under way; whoever stops waiting
/// leaves it to the others, and with the last of them it ends.
pub struct Joined<K, V: Clone>(Mutex<HashMap<K, WeakShared<Asking<V>>>>);

type Asking<V> = BoxFuture<'static, Arc<V>>;

impl<K, V: Clone> Default for Joined<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Clone + Eq + Hash, V: Clone + Send + Sync + 'static> Joined<K, V> {
    /// The answer to `question`: that which is under way, or what `ask` gives.
    pub async fn ask<F>(&self, question: &K, ask: impl FnOnce() -> F) -> Arc<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let asking = self.join(question, ask);
        let answer = asking.clone().await;
        drop(asking);
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only what nobody waits for any more: another one may be asking anew by now.
        if under_way.get(question).is_some_and(is_over) {
            under_way.remove(question);
        }
        answer
    }

    fn join<F>(&self, question: &K, ask: impl FnOnce() -> F) -> Shared<Asking<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let running = under_way.get(question).and_then(WeakShared::upgrade);
        if let Some(running) = running.filter(|running| running.peek().is_none()) {
            return running;
        }
        // Those whose askers have all gone before the end.
        under_way.retain(|_, asking| !is_over(asking));
        let asking = ask().map(Arc::new).boxed().shared();
        if let Some(weak) = asking.downgrade() {
            under_way.insert(question.clone(), weak);
        }
        asking
    }
}

fn is_over<V: Clone>(asking: &WeakShared<Asking<V>>) -> bool {
    asking.upgrade().is_none()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[derive(Default)]
    struct Ground {
        joined: Joined<u8, usize>,
        asked: AtomicUsize,
        answer: Notify,
    }

    impl Ground {
        async fn ask(self: Arc<Self>, question: u8) -> usize {
            let ground = Arc::clone(&self);
            let ask = move || async move {
                let count = ground.asked.fetch_add(1, Ordering::SeqCst) + 1;
                ground.answer.notified().await;
                count
            };
            *self.joined.ask(&question, ask).await
        }
    }

    #[tokio::test]
    async fn equal_questions_under_way_are_one_and_later_ones_are_asked_anew() {
        let ground = Arc::new(Ground::default());
        let asking = |question| Box::pin(Arc::clone(&ground).ask(question));
        let (mut first, mut second, mut other) = (asking(1), asking(1), asking(2));
        for one in [&mut first, &mut second, &mut other] {
            assert!(one.now_or_never().is_none());
        }
        assert_eq!(ground.asked.load(Ordering::SeqCst), 2);
        // The first asker stops waiting, and the question goes on.
        drop(first);
        ground.answer.notify_waiters();
        assert_eq!((second.await, other.await), (1, 2));
        assert!(ground.joined.0.lock().unwrap().is_empty());

        let mut third = asking(1);
        assert!((&mut third).now_or_never().is_none());
        ground.answer.notify_waiters();
        assert_eq!(third.await, 3);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_any_more_is_asked_anew() {
        let ground = Arc::new(Ground::default());
        let mut left = Box::pin(Arc::clone(&ground).ask(1));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        let mut again = Box::pin(Arc::clone(&ground).ask(1));
        assert!((&mut again).now_or_never().is_none());
        ground.answer.notify_waiters();
        assert_eq!(again.await, 2);
    }
}
