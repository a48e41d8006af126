//! The live status screen on the machine's own screen and serial line. It asks the control API what there is and draws it; it
//! decides nothing about the machine, changes nothing, and runs as a user who may only look.
//!
//! `session` decides when a terminal is drawn on (pure), `keys` reads what comes from it, `draw` makes a picture of an
//! answer, `paint` turns pictures into bytes, `terminal` writes them without ever waiting, `client` asks.

pub mod client;
pub mod draw;
pub mod keys;
pub mod model;
pub mod paint;
pub mod question;
pub mod run;
pub mod session;
pub mod terminal;
