use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::index::Prefer;
use super::*;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn options(&self) -> Options {
        Options {
            segment_bytes: 4 << 10,
            capacity: Some(1 << 20),
            ..Options::new(self.dir.path().into())
        }
    }

    fn open(&self) -> (Spool, recover::Recovered) {
        Spool::open(&self.options(), Arc::default(), 1).unwrap()
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "seg"))
            .collect();
        found.sort();
        found
    }
}

fn body(n: u64) -> Vec<u8> {
    // Does not compress away.
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x as u8
    })
    .take(100 + (n % 50) as usize)
    .collect()
}

fn put(spool: &Spool, n: u64) -> Result<u64, AppendError> {
    let mut packer = Packer::default();
    packer.pack(Kind::Traces, n, &body(n)).unwrap();
    spool.append(&mut packer, Class::Otlp, Kind::Traces, n).map(|(seq, _)| seq)
}

fn cover(spool: &Spool, covers: u64) {
    let mut packer = Packer::default();
    let message = Reduced { covers_seq: covers, ..Default::default() };
    packer.pack(Kind::Reduced, 1, &message.encode_to_vec()).unwrap();
    spool.append_reduced(&mut packer, covers, 1).unwrap();
}

/// Every record that can be shipped, oldest first.
fn ship(spool: &Spool) -> Vec<(SegmentId, record::Record)> {
    let mut out = Vec::new();
    while let Some(chunk) = spool.next_chunk(1_000, Prefer::Oldest).unwrap() {
        let mut bytes = chunk.bytes;
        let first = out.len();
        while !bytes.is_empty() {
            out.push((chunk.segment, record::take(&mut bytes).unwrap()));
        }
        assert_eq!(out[first].1.seq, chunk.first_seq);
        assert_eq!(out.last().unwrap().1.seq, chunk.last_seq);
    }
    out
}

fn traces(records: &[(SegmentId, record::Record)]) -> Vec<Vec<u8>> {
    let traces = records.iter().filter(|(_, r)| r.kind == Kind::Traces);
    traces.map(|(_, r)| r.body().unwrap().to_vec()).collect()
}

#[test]
fn what_was_appended_is_shipped_in_order_once() {
    let place = Place::new();
    let (spool, _) = place.open();
    for n in 0..100 {
        put(&spool, n).unwrap();
    }
    let shipped = ship(&spool);
    assert_eq!(traces(&shipped), (0..100).map(body).collect::<Vec<_>>());
    assert!(shipped.windows(2).all(|w| w[1].1.seq == w[0].1.seq + 1), "seq ascends by one");
    assert!(place.segments().len() > 2);
    assert!(ship(&spool).is_empty());
}

#[test]
fn a_restart_continues_where_the_last_life_ended() {
    let place = Place::new();
    let (spool, _) = place.open();
    for n in 0..40 {
        put(&spool, n).unwrap();
    }
    cover(&spool, 30);
    drop(spool);
    let (spool, recovered) = place.open();
    assert_eq!((recovered.covers, recovered.torn_bytes, recovered.damage.len()), (30, 0, 0));
    let mut replayed = Vec::new();
    spool.replay(30, |seq, _, body| replayed.push((seq, body.to_vec()))).unwrap();
    assert!(replayed.iter().all(|(seq, _)| *seq > 30));
    let known: std::collections::HashMap<u64, Vec<u8>> =
        ship(&spool).into_iter().map(|(_, r)| (r.seq, r.body().unwrap().to_vec())).collect();
    assert!(replayed.iter().all(|(seq, body)| known[seq] == *body));
    let next = put(&spool, 99).unwrap();
    assert!(next > *known.keys().max().unwrap());
}

#[test]
fn counting_is_remembered_whatever_was_deleted() {
    let place = Place::new();
    let (spool, _) = place.open();
    for n in 0..100 {
        put(&spool, n).unwrap();
    }
    let covers = spool.last_counted();
    cover(&spool, covers);
    for n in 100..200 {
        put(&spool, n).unwrap();
    }
    // The colony has committed what holds the Reduced record, but not the oldest segment.
    let shipped = ship(&spool);
    let oldest = shipped[0].0;
    for (segment, record) in &shipped {
        if *segment != oldest {
            spool.acked(*segment, record.seq);
        }
    }
    assert!(!spool.reap().is_empty());
    drop(spool);
    assert_eq!(place.open().1.covers, covers);
}

#[test]
fn a_file_cut_at_any_byte_keeps_every_whole_record() {
    let place = Place::new();
    let (spool, _) = place.open();
    for n in 0..2 {
        put(&spool, n).unwrap();
    }
    drop(spool);
    let segment = place.segments().pop().unwrap();
    let whole = fs::read(&segment).unwrap();
    for cut in 0..whole.len() {
        let again = Place::new();
        let path = again.dir.path().join(segment.file_name().unwrap());
        fs::write(&path, &whole[..cut]).unwrap();
        let recovered = recover::recover(again.dir.path()).unwrap();
        let mut bytes = Bytes::copy_from_slice(whole.get(record::FILE_HEADER..cut).unwrap_or(&[]));
        let (mut count, mut last) = (0, 0);
        while let Ok(record) = record::take(&mut bytes) {
            (count, last) = (count + 1, record.seq);
        }
        assert!(recovered.damage.is_empty(), "a cut is not damage");
        assert_eq!(recovered.segments.len(), usize::from(count > 0), "cut at {cut}");
        assert_eq!(recovered.next_seq, if count > 0 { last + 1 } else { 1 });
        if count > 0 {
            assert_eq!(fs::metadata(&path).unwrap().len(), recovered.segments[0].bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn damage_costs_only_the_records_it_hit(at in 24usize..900, by in 1u8..) {
        let place = Place::new();
        let (spool, _) = place.open();
        for n in 0..8 {
            put(&spool, n).unwrap();
        }
        let before = ship(&spool);
        drop(spool);
        let path = place.segments().pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        prop_assume!(at >= 24);
        bytes[at] ^= by;
        fs::write(&path, &bytes).unwrap();
        let (spool, recovered) = place.open();
        let after = ship(&spool);
        let lost: Vec<_> = before.iter().filter(|r| !after.contains(r)).collect();
        prop_assert!(lost.len() <= 1, "one byte cost {} records", lost.len());
        if lost.is_empty() {
            return Ok(());
        }
        let told = recovered.damaged_bytes() + recovered.torn_bytes;
        prop_assert_eq!(told, lost[0].1.stored_len() as u64);
        prop_assert!(recovered.torn_bytes > 0 || recovered.damage[0].file.exists());
        // Mended: the next start finds nothing wrong.
        drop(spool);
        let (_, again) = place.open();
        prop_assert_eq!((again.damaged_bytes(), again.torn_bytes), (0, 0));
    }
}

#[test]
fn a_full_spool_refuses_applications_first() {
    let place = Place::new();
    let options = Options { capacity: Some(64 << 10), ..place.options() };
    let (spool, _) = Spool::open(&options, Arc::default(), 1).unwrap();
    let mut taken = 0;
    let error = loop {
        match put(&spool, taken) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Full { .. }), "{error}");
    let (used, capacity) = spool.usage();
    assert!(used <= capacity && taken > 100);
    // What lets segments go still fits.
    cover(&spool, spool.last_counted());
    for (segment, record) in ship(&spool) {
        spool.acked(segment, record.seq);
    }
    assert!(!spool.reap().is_empty());
    put(&spool, 1).unwrap();
}

#[test]
fn marks_of_segments_that_are_gone_are_named() {
    let place = Place::new();
    let (spool, _) = place.open();
    put(&spool, 1).unwrap();
    let (mine, record) = ship(&spool).pop().unwrap();
    let gone = SegmentId([9; 16]);
    assert_eq!(spool.restart_shipping(&[(gone, 7), (mine, record.seq)]), [gone]);
    assert!(ship(&spool).is_empty(), "all of it is committed");
    assert!(spool.restart_shipping(&[]).is_empty());
    assert_eq!(ship(&spool).len(), 2, "a colony that lost its store gets it again");
}

#[tokio::test]
async fn with_power_durability_the_ticket_waits_for_the_sync() {
    let place = Place::new();
    let options = Options { durability: Durability::Power, ..place.options() };
    let (spool, _) = Spool::open(&options, Arc::default(), 1).unwrap();
    let mut packer = Packer::default();
    packer.pack(Kind::Logs, 1, b"x").unwrap();
    let (_, ticket) = spool.append(&mut packer, Class::Otlp, Kind::Logs, 1).unwrap();
    assert!(ticket.ready().await);
    spool.sync_now();
}

#[test]
fn an_idle_segment_that_is_done_makes_room() {
    let place = Place::new();
    let options = Options { segment_bytes: 8 << 20, capacity: Some(64 << 20), ..place.options() };
    let (spool, _) = Spool::open(&options, Arc::default(), 1).unwrap();
    for n in 0..4_000 {
        put(&spool, n).unwrap();
    }
    cover(&spool, spool.last_counted());
    for (segment, record) in ship(&spool) {
        spool.acked(segment, record.seq);
    }
    assert!(spool.reap().is_empty(), "it is the newest");
    spool.seal_when_idle(2);
    assert_eq!(spool.reap().len(), 1);
    assert!(spool.usage().0 < 1_000);
}
