//! Chains of layers: which tree the layers up to one give.
//!
//! A chain is named by the image specification's ChainID, a digest over the diff_ids. Equal chains are equal file systems, whatever the
//! compression, and whatever image they are in.

use super::digest::{Algorithm, Digest};
use super::error::ImportError;
use super::feed::{Keep, LayerInput};
use super::import::LayerFacts;
use crate::object::{SourceError, TreeId};
use crate::store::Store;

/// The version of the rules by which layers become trees. It grows when one image would give another tree than before, so that
/// nothing that was remembered under the old rules is used.
pub const LAYER_RULES: u32 = 1;

/// What a chain of layers gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainFact {
    /// The ChainID.
    pub chain: Digest,
    /// The root tree of all layers of the chain.
    pub tree: TreeId,
    /// The uppermost layer.
    pub layer: LayerFacts,
}

/// Remembers what chains of layers give, by [`LAYER_RULES`].
pub trait KnownLayers {
    /// What is remembered of a chain. Whether the tree is still there is not looked at.
    fn chain(&self, chain: &Digest) -> Result<Option<ChainFact>, SourceError>;
}

/// Knows nothing.
impl KnownLayers for () {
    fn chain(&self, _: &Digest) -> Result<Option<ChainFact>, SourceError> {
        Ok(None)
    }
}

/// A chain that need not be read.
pub(super) struct Base {
    pub(super) tree: TreeId,
    /// The layers of the chain as they were when they were read.
    pub(super) layers: Vec<LayerFacts>,
}

/// The chains up to each layer; none when a layer gives no diff_id.
pub(super) fn of_layers(layers: &[LayerInput]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for layer in layers {
        let Some(diff_id) = &layer.diff_id else { return Vec::new() };
        chains.push(match chains.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(Algorithm::Sha256, format!("{below} {diff_id}").as_bytes()),
        });
    }
    chains
}

/// The longest known chain that starts an image.
pub(super) fn deepest(
    chains: &[Digest],
    layers: &[LayerInput],
    store: &Store,
    known: &dyn KnownLayers,
) -> Result<Option<Base>, ImportError> {
    let mut base: Option<Base> = None;
    for (chain, layer) in chains.iter().zip(layers) {
        // A skeleton is made while an archive is read, so such a layer and those above it are read again.
        if layer.digest.is_some() && matches!(layer.keep, Keep::Skeleton(_)) {
            break;
        }
        let Some(fact) = known.chain(chain)? else { break };
        let layers = base.take().map(|base| base.layers).into_iter().flatten().chain([fact.layer]).collect();
        base = Some(Base { tree: fact.tree, layers });
    }
    match base {
        Some(base) if store.has_packed(base.tree.as_bytes())? => Ok(Some(base)),
        _ => Ok(None),
    }
}
