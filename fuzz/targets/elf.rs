#![no_main]

use std::sync::Once;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static HUSH: Once = Once::new();
    // Every panic is fatal to libFuzzer; those of blazesym are caught, and are not ours.
    HUSH.call_once(|| {
        let fatal = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.location().is_some_and(|at| at.file().contains("/blazesym-")) {
                fatal(panic);
            }
        }));
    });
    pipeprof_fuzz::elf(bytes);
});
