//! Strategies on small parents: that fused models are sound, and that their weights and logits are
//! those that the definition of each strategy gives.

mod cross;
mod errors;
mod generated;
mod golden;
mod marks;
mod merging;
mod parents;
mod passes;
mod reference;
mod sizes;
mod uniform;
mod vocabularies;
mod width;
