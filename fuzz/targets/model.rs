#![no_main]

use crossdock_fuzz::{model, write_model_seeds};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: write_model_seeds(), |data: &[u8]| model(data));
