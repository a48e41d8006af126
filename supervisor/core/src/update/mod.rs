//! Updates, decided without effects: the record that survives power cuts ([`record`]), what follows from an event ([`machine`]), what a boot
//! means ([`assess`]), and what the boot partition has to hold ([`esp`]). Work that takes long or needs rights is done by one-shot units, which
//! are asked and answer in the words of [`task`].

pub mod assess;
pub mod esp;
mod format;
pub mod machine;
pub mod record;
pub mod task;
