#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| atalaya_fuzz::edge_settings(data));
