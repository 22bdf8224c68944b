use std::collections::BTreeSet;

use crate::lease::Lease;

/// Who has what, as of one look at the leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// The partitions that nobody has.
    pub(crate) free: BTreeSet<u32>,
    /// The seats that a replica has.
    pub(crate) seats: BTreeSet<u32>,
}

impl View {
    /// From the leases of so many partitions and, after them, as many seats.
    pub(crate) fn new(partitions: u32, leases: &[Option<Lease>]) -> Self {
        let (of_partitions, of_seats) = leases.split_at(leases.len().min(partitions as usize));
        let is_free = |lease: &Option<Lease>| lease.as_ref().is_none_or(Lease::is_free);
        let indexes_of = |leases: &[Option<Lease>], free| {
            let indexed = (0..).zip(leases);
            let found = indexed.filter(|(_, lease)| is_free(lease) == free);
            found.map(|(index, _)| index).collect()
        };
        Self {
            free: indexes_of(of_partitions, true),
            seats: indexes_of(of_seats, false),
        }
    }

    /// A seat that nobody has.
    pub(crate) fn free_seat(&self, partitions: u32) -> Option<u32> {
        (0..partitions).find(|seat| !self.seats.contains(seat))
    }
}

/// How many of the partitions the replica on seat `own` is to have. All together have all of them, and nobody has
/// two more than another: the extra ones go to the first seats.
pub(crate) fn share(partitions: u32, seats: &BTreeSet<u32>, own: u32) -> usize {
    let replicas = seats.len().max(1);
    let before = seats.range(..own).count();
    let partitions = partitions as usize;
    partitions / replicas + usize::from(before < partitions % replicas)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shares(partitions: u32, seats: &[u32]) -> Vec<usize> {
        let taken = seats.iter().copied().collect();
        let share = |own: &u32| share(partitions, &taken, *own);
        seats.iter().map(share).collect()
    }

    #[test]
    fn the_shares_are_even_and_the_extra_ones_go_to_the_first() {
        assert_eq!(shares(8, &[0]), [8]);
        assert_eq!(shares(8, &[0, 1]), [4, 4]);
        assert_eq!(shares(8, &[0, 3, 7]), [3, 3, 2]);
        assert_eq!(shares(2, &[0, 1]), [1, 1]);
    }

    #[test]
    fn the_shares_of_all_are_all_the_partitions() {
        for partitions in 1..=12 {
            for replicas in 1..=partitions {
                let seats: Vec<_> = (partitions - replicas..partitions).collect();
                let shares = shares(partitions, &seats);
                assert_eq!(shares.iter().sum::<usize>(), partitions as usize);
                assert!(shares.iter().all(|share| *share >= 1), "{shares:?}");
            }
        }
    }

    #[test]
    fn what_was_never_held_was_released_or_has_run_out_is_free() {
        let lease = |holder: Option<&str>, seconds| {
            Some(Lease::new(
                holder.map(str::to_owned),
                1,
                Duration::from_secs(seconds),
            ))
        };
        let leases = [None, lease(Some("a"), 5), lease(Some("a"), 0)];
        let seats = [lease(Some("a"), 5), lease(None, 0), lease(Some("b"), 1)];
        let view = View::new(3, &[leases, seats].concat());
        assert_eq!(view.free, BTreeSet::from([0, 2]));
        assert_eq!(view.seats, BTreeSet::from([0, 2]));
        assert_eq!(view.free_seat(3), Some(1));
        let full = View {
            seats: BTreeSet::from([0, 1, 2]),
            ..view
        };
        assert_eq!(full.free_seat(3), None);
    }
}
