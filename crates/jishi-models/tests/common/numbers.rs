//! The formula of fixtures/image.py.

/// Numbers from −1 to 1 that both this file and the script of the fixtures make: a hash of the name and the place.
pub fn numbers(name: &str, count: usize) -> Vec<f32> {
    let hash = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let seed = name.bytes().fold(0x811c_9dc5, hash);
    let number = |i: u32| {
        let mut x = (i + 1).wrapping_mul(0x9e37_79b1).wrapping_add(seed);
        x = (x ^ (x >> 15)).wrapping_mul(0x85eb_ca77);
        x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae3d);
        (x >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count as u32).map(number).collect()
}
