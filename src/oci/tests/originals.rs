//! What an import keeps of an image besides its files, and what it need not read again.

use std::cell::RefCell;
use std::collections::HashMap;

use super::super::originals::Form;
use super::super::skeleton::assemble;
use super::super::testing::{OciImage, Place, TarMaker, gzip};
use super::super::*;
use crate::object::SourceError;

/// Remembers chains as an index does, and counts what it was asked.
#[derive(Default)]
struct Memory {
    chains: RefCell<HashMap<Digest, ChainFact>>,
}

impl KnownLayers for Memory {
    fn chain(&self, chain: &Digest) -> Result<Option<ChainFact>, SourceError> {
        Ok(self.chains.borrow().get(chain).cloned())
    }
}

fn take_in(place: &Place, memory: &Memory, image: &OciImage) -> Result<Imported, ImportError> {
    let dir = place.path("layout");
    image.clone().write_layout(&dir);
    let source = ImageSource::OciLayout { dir: dir.clone(), reference: None };
    let mut batch = place.store.batch().unwrap();
    let options = ImportOptions::default();
    let imported = import(&source, &mut batch, &place.store, &place.originals(), memory, &options);
    if imported.is_ok() {
        batch.commit().unwrap();
    }
    std::fs::remove_dir_all(dir).unwrap();
    let imported = imported?;
    let learnt = imported.chains.iter().map(|fact| (fact.chain.clone(), fact.clone()));
    memory.chains.borrow_mut().extend(learnt);
    Ok(imported)
}

fn compressed(kind: &str, plain: &[u8]) -> Vec<u8> {
    match kind {
        "gzip" => gzip(plain),
        _ => zstd::encode_all(plain, 3).unwrap(),
    }
}

fn layer(name: &str, body: &str) -> Vec<u8> {
    TarMaker::new().file(name, body).end()
}

#[test]
fn an_uncompressed_layer_is_put_together_again_bit_by_bit() {
    let place = Place::new();
    // Junk behind the end and a body that fills no block are part of the archive.
    let mut odd = TarMaker::new()
        .file("a", "one")
        .file("b", &"x".repeat(100_000))
        .hard_link("c", "b")
        .file("e", "")
        .end();
    odd.extend_from_slice(&[7; 3000]);
    let imported = take_in(&place, &Memory::default(), &OciImage::of(&[odd.clone()])).unwrap();
    let facts = &imported.image.as_ref().unwrap().layers[0];
    let originals = place.originals();
    assert_eq!(originals.form(&facts.digest).unwrap(), Some(Form::Skeleton));
    let kept = std::fs::File::open(originals.path(&facts.digest).with_extension("skeleton")).unwrap();
    assert!(kept.metadata().unwrap().len() < 2000, "the files' bytes are in it");
    let mut again = Vec::new();
    assemble(std::io::BufReader::new(kept), &place.store, &mut again).unwrap();
    assert!(again == odd);
}

#[test]
fn a_compressed_layer_and_the_documents_are_kept_as_they_are() {
    let place = Place::new();
    let plain = layer("a", "one");
    for kind in ["gzip", "zstd"] {
        let bytes = compressed(kind, &plain);
        let image = OciImage::of_stored(&[(plain.clone(), bytes.clone())]);
        let imported = take_in(&place, &Memory::default(), &image).unwrap();
        let facts = imported.image.unwrap();
        let originals = place.originals();
        assert_eq!(std::fs::read(originals.path(&facts.layers[0].digest)).unwrap(), bytes, "{kind}");
        for document in [&facts.config, facts.manifest.as_ref().unwrap()] {
            let bytes = originals.document(&document.digest, 1 << 20).unwrap().unwrap();
            assert_eq!(bytes.len() as u64, document.size);
        }
    }
}

#[test]
fn known_layers_are_not_read_again() {
    let (place, memory) = (Place::new(), Memory::default());
    let (base, more, other) = (layer("base", "b"), layer("more", "m"), layer("other", "o"));
    let stored = |plain: &Vec<u8>| (plain.clone(), compressed("gzip", plain));
    let first = take_in(&place, &memory, &OciImage::of_stored(&[stored(&base), stored(&more)])).unwrap();
    assert_eq!((first.entries, first.chains.len()), (2, 2));
    let again = take_in(&place, &memory, &OciImage::of_stored(&[stored(&base), stored(&more)])).unwrap();
    assert_eq!((again.entries, again.root), (0, first.root));
    assert_eq!(again.image, first.image);
    let branch = take_in(&place, &memory, &OciImage::of_stored(&[stored(&base), stored(&other)])).unwrap();
    assert_eq!(branch.entries, 1);
    assert_eq!(place.files(&branch).paths(), ["base", "other"]);
    let fresh = take_in(&Place::new(), &Memory::default(), &OciImage::of(&[base, other])).unwrap();
    assert_eq!(fresh.root, branch.root);
}

#[test]
fn a_known_layer_in_another_compression_is_kept_in_that_one_too() {
    let (place, memory) = (Place::new(), Memory::default());
    let plain = layer("a", "one");
    let image = |kind| OciImage::of_stored(&[(plain.clone(), compressed(kind, &plain))]);
    let first = take_in(&place, &memory, &image("gzip")).unwrap();
    let second = take_in(&place, &memory, &image("zstd")).unwrap();
    assert_eq!((second.root, second.entries), (first.root, 0));
    for imported in [first, second] {
        let facts = imported.image.unwrap();
        assert_eq!(place.originals().form(&facts.layers[0].digest).unwrap(), Some(Form::Whole));
    }
    // Without compression there is a skeleton to be made, so it is read.
    let third = take_in(&place, &memory, &OciImage::of(&[plain])).unwrap();
    assert_eq!(third.entries, 1);
    assert_eq!(place.originals().form(&third.image.unwrap().layers[0].digest).unwrap(), Some(Form::Skeleton));
}

#[test]
fn a_known_diff_id_does_not_vouch_for_other_bytes() {
    let (place, memory) = (Place::new(), Memory::default());
    let (plain, other) = (layer("a", "one"), layer("a", "two"));
    take_in(&place, &memory, &OciImage::of_stored(&[(plain.clone(), compressed("gzip", &plain))])).unwrap();
    let forged = OciImage::of_stored(&[(plain, compressed("gzip", &other))]);
    assert!(take_in(&place, &memory, &forged).is_err());
}

#[test]
fn a_refused_image_leaves_no_original() {
    let place = Place::new();
    let (good, bad) = (layer("a", "one"), layer("../x", "two"));
    let stored = |plain: &Vec<u8>| (plain.clone(), compressed("gzip", plain));
    assert!(
        take_in(&place, &Memory::default(), &OciImage::of_stored(&[stored(&good), stored(&bad)])).is_err()
    );
    assert!(!place.store.layout().originals().exists());
}
