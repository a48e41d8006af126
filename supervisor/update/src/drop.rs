//! `drop`: removes generations that nobody needs any more, slowly enough to be no burden.
