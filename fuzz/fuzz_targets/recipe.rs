#![no_main]
//! The recipe parser: any text gives a recipe or problems, and a recipe that parses is written back as itself.

use jishi_recipe::{Origin, parse, to_toml};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let origin = Origin::File("fuzz.toml".into());
    if let Ok(parsed) = parse(text, &origin, &[]) {
        let again = parse(&to_toml(&parsed.recipe), &origin, &[]).expect("a resolved recipe parses");
        assert_eq!(parsed.recipe, again.recipe);
    }
});
