#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use proptest::prelude::*;

use super::*;

pub(crate) fn tokens(pieces: Vec<Piece>, vocabulary: usize, around: Around) -> Tokens {
    let folder = tempfile::tempdir().unwrap();
    let items = pieces.chunks(3).map(|pieces| Ok(pieces.to_vec())).collect::<Vec<_>>().into_iter();
    let path = folder.path().join("sub/tokens");
    Tokens::open_or_build(&path, &CacheKey([7; 32]), vocabulary, around, items, |p: &Piece| Ok(p.clone()))
        .unwrap()
}

fn piece(ids: &[u32]) -> Piece {
    Piece { ids: ids.to_vec(), ..Piece::default() }
}

#[test]
fn documents_come_back_with_what_is_around_them() {
    let around = Around { bos: Some(8), eos: Some(9) };
    let pieces = vec![
        piece(&[1, 2]),
        Piece { continues: true, ..piece(&[3]) },
        piece(&[]),
        Piece { learned: Some(vec![1..2, 3..4]), ..piece(&[1, 2, 3, 4, 5]) },
    ];
    for vocabulary in [10, 70_000] {
        let tokens = tokens(pieces.clone(), vocabulary, around);
        let mut all = Vec::new();
        tokens.read(0..tokens.len(), &mut all);
        assert_eq!(all, [8, 1, 2, 3, 9, 8, 9, 8, 1, 2, 3, 4, 5, 9]);
        assert_eq!((0..3).map(|i| tokens.document(i)).collect::<Vec<_>>(), [0..5, 5..7, 7..14]);
        assert_eq!((tokens.document_of(4), tokens.document_of(5), tokens.document_of(13)), (0, 1, 2));
        let learned: Vec<usize> = (8..14).filter(|&t| tokens.learned(t)).collect();
        assert_eq!(learned, [9, 11]);
        assert!((0..8).all(|t| tokens.learned(t)));
    }
    assert_eq!(tokens(Vec::new(), 10, around).documents(), 0);
}

#[test]
fn used_again_with_the_same_key_alone_and_never_when_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let key = CacheKey([1; 32]);
    let make = |key, ids: &[u32]| {
        let items = [Ok(vec![piece(ids)])];
        let made =
            Tokens::open_or_build(&path, &key, 10, Around::default(), items.into_iter(), |p: &Piece| {
                Ok(p.clone())
            })
            .unwrap();
        let mut out = Vec::new();
        made.read(0..made.len(), &mut out);
        out
    };
    assert_eq!(make(key, &[1, 2, 3]), [1, 2, 3]);
    assert_eq!(make(key, &[4]), [1, 2, 3]);
    assert_eq!(make(CacheKey([2; 32]), &[4]), [4]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    make(key, &[1, 2, 3]);
    let good = std::fs::read(&path).unwrap();
    // A lower vocabulary: a token that is beyond it.
    assert!(Tokens::open(&path, &key, 3).unwrap().is_none());
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x80;
        std::fs::write(&path, &bad).unwrap();
        let free = (68..HEADER).contains(&at) || at == HEADER + 6 || at == HEADER + 7;
        assert_eq!(Tokens::open(&path, &key, 10).unwrap().is_some(), free, "byte {at}");
    }
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(Tokens::open(&path, &key, 10).unwrap().is_none(), "{length} bytes");
    }
    assert_eq!(make(key, &[5]), [5]);
}

#[test]
fn keys_depend_on_everything() {
    let source = |text: &str| Source::Memory { name: "a.txt".into(), bytes: text.as_bytes().into() };
    let key = |text: &str, parts: &[&[u8]]| CacheKey::of(&[source(text)], parts).unwrap();
    assert_eq!(key("a", &[b"x"]), key("a", &[b"x"]));
    assert_ne!(key("a", &[b"x"]), key("b", &[b"x"]));
    assert_ne!(key("a", &[b"xy", b"z"]), key("a", &[b"x", b"yz"]));
    assert!(CacheKey::of(&[Source::File("none".into())], &[]).is_err());
}

/// Where all that was read is of another split, a reader gives nothing, and goes on.
#[test]
fn batches_of_nothing_are_not_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens");
    let nothing = || std::iter::repeat_with(|| Ok(Vec::new())).take(100);
    let one = |id: u32| std::iter::once(Ok(vec![piece(&[id])]));
    let items = nothing().chain(one(3)).chain(nothing()).chain(one(4)).chain(nothing());
    let key = CacheKey([7; 32]);
    let encode = |p: &Piece| Ok(p.clone());
    let tokens = Tokens::open_or_build(&path, &key, 10, Around::default(), items, encode).unwrap();
    assert_eq!((tokens.documents(), tokens.len()), (2, 2));
}

#[test]
fn order_is_kept_over_batches() {
    let pieces: Vec<Piece> = (0..10_000).map(|i| piece(&[i, i + 1])).collect();
    let tokens = tokens(pieces, 20_000, Around::default());
    let mut out = Vec::new();
    tokens.read(0..tokens.len(), &mut out);
    assert!(out.chunks(2).zip(0..).all(|(pair, i)| pair == [i, i + 1]));
}

proptest! {
    #[test]
    fn any_bytes_are_a_header_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = bytes;
        let _ = header_fits(&bytes);
        if bytes.len() >= 12 {
            bytes[..8].copy_from_slice(MAGIC);
            bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
            let _ = header_fits(&bytes);
        }
    }
}
