#![no_main]

use std::sync::LazyLock;

use crossdock_fuzz::Containerfiles;
use libfuzzer_sys::fuzz_target;

static BODY: LazyLock<Containerfiles> = LazyLock::new(Containerfiles::new);

fuzz_target!(|data: &[u8]| BODY.run(data));
