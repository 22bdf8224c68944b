//! Batches of deliveries, which are sent in transactions.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use changestream_core::{Delivery, HandlerError};

use super::{KafkaSink, failure};

impl KafkaSink {
    /// Sends the deliveries of each topic in a transaction. One that is refused for what is in it is sent in halves, so that what it
    /// is refused for becomes known and the others are delivered.
    pub(super) async fn send_all(
        self: Arc<Self>,
        batch: Vec<Delivery>,
    ) -> Result<(), HandlerError> {
        let mut failed = Vec::new();
        let mut topics = BTreeMap::<_, Vec<usize>>::new();
        for (place, delivery) in batch.iter().enumerate() {
            match self.topic_of(delivery) {
                Ok(topic) => topics
                    .entry(Arc::<str>::from(topic))
                    .or_default()
                    .push(place),
                Err(error) => failed.push((place, error)),
            }
        }
        let mut unsent: VecDeque<_> = topics.into_iter().collect();
        while let Some((topic, places)) = unsent.pop_front() {
            let records = places
                .iter()
                .map(|&place| self.record(&topic, &batch[place]));
            let Err(failure) = self.connection.transactions.send(records).await else {
                continue;
            };
            let code = failure.code();
            if code.is_some_and(failure::is_of_a_batch) && places.len() > 1 {
                let (first, second) = places.split_at(places.len() / 2);
                unsent.push_front((Arc::clone(&topic), second.to_vec()));
                unsent.push_front((topic, first.to_vec()));
                continue;
            }
            let others = match code.is_some_and(failure::is_of_a_topic) {
                true => VecDeque::new(),
                false => std::mem::take(&mut unsent),
            };
            for (topic, places) in [(topic, places)].into_iter().chain(others) {
                let error = |place| (place, self.connection.judge(&topic, &failure));
                failed.extend(places.into_iter().map(error));
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => Err(HandlerError::partial(failed)),
        }
    }
}
