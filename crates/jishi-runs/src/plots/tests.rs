//! Every plot, drawn into `target/plots` for a look, with checks of what can be checked.

use std::path::Path;

use super::*;

/// Repeatable noise in −1…1 (a linear congruential generator; Knuth's MMIX constants).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() / 2.0
    }
}

/// Writes both kinds and looks them over.
fn show(name: &str, scene: &Scene) -> (String, Vec<u8>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plots");
    std::fs::create_dir_all(&dir).unwrap();
    let start = std::time::Instant::now();
    let (svg, png) = (scene.to_svg(), scene.to_png());
    println!("{name}: {:?}, {} B of SVG, {} B of PNG", start.elapsed(), svg.len(), png.len());
    crate::atomic::write_real(&dir.join(format!("{name}.svg")), svg.as_bytes()).unwrap();
    crate::atomic::write_real(&dir.join(format!("{name}.png")), &png).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n") && !svg.contains("NaN"), "{name}");
    let decoder = ::png::Decoder::new(std::io::Cursor::new(&png));
    let reader = decoder.read_info().unwrap();
    assert_eq!(reader.info().width, (scene.width * 2.0).ceil() as u32);
    for shape in &scene.shapes {
        if let Shape::Text { at: [x, y], text, size, .. } = shape {
            assert!(*size >= 14.0, "{name}: {text} is small");
            assert!(
                *x >= 0.0 && *x <= scene.width && *y >= 0.0 && *y <= scene.height,
                "{name}: {text} is outside"
            );
        }
    }
    (svg, png)
}

fn texts(scene: &Scene) -> Vec<&str> {
    scene
        .shapes
        .iter()
        .filter_map(|s| if let Shape::Text { text, .. } = s { Some(text.as_str()) } else { None })
        .collect()
}

fn run(name: &str, floor: f64, speed: f64, epochs: u32, noise: &mut Noise) -> RunCurve {
    let curve = |floor: f64, noise: &mut Noise, wave: f64| -> Vec<[f64; 2]> {
        (1..=epochs)
            .map(|e| {
                let e = f64::from(e);
                [
                    e,
                    floor
                        + (1.1 - floor) * (-e * speed).exp()
                        + wave * noise.next()
                        + 4e-6 * e * e * wave * 100.0,
                ]
            })
            .collect()
    };
    let train = curve(floor, noise, 0.003);
    let validation = curve(floor + 0.05, noise, 0.01);
    let best = validation.iter().copied().min_by(|a, b| a[1].total_cmp(&b[1]));
    RunCurve { name: name.into(), train, validation, best }
}

fn prices(n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut noise = Noise(3);
    let actual: Vec<f64> = (0..n).map(|_| (12.0 + 0.4 * noise.normal()).exp()).collect();
    let predicted = actual.iter().map(|a| a * (1.0 + 0.09 * noise.normal())).collect();
    (actual, predicted)
}

#[test]
fn curves_of_one_run() {
    let curve = run("house-prices", 0.06, 0.09, 100, &mut Noise(1));
    let scene = curves(&Curves {
        title: "house-prices".into(),
        x_label: "epoch".into(),
        y_label: "loss (mse, scaled)".into(),
        runs: vec![curve.clone()],
    });
    let (svg, _) = show("curves", &scene);
    assert!(svg.contains(">validation</text>") && svg.contains("best: epoch"));
    assert_eq!(
        scene,
        curves(&Curves {
            title: "house-prices".into(),
            x_label: "epoch".into(),
            y_label: "loss (mse, scaled)".into(),
            runs: vec![curve]
        })
    );
}

#[test]
fn curves_over_a_wide_range_are_logarithmic() {
    let points = |scale: f64| {
        (0..20_000).map(move |i| [f64::from(i), scale * (80.0 * (-f64::from(i) / 1500.0).exp() + 0.02)])
    };
    let mut noise = Noise(9);
    let train: Vec<[f64; 2]> = points(1.0).map(|[x, y]| [x, y * (1.0 + 0.25 * noise.next())]).collect();
    let mut validation: Vec<[f64; 2]> = points(1.3).step_by(500).collect();
    validation[20][1] = f64::NAN;
    let curve = RunCurve { name: "a".into(), train, validation, best: Some([19_500.0, 0.026]) };
    let scene = curves(&Curves {
        title: "A wide range".into(),
        x_label: "step".into(),
        y_label: "loss".into(),
        runs: vec![curve],
    });
    let (svg, _) = show("curves-log", &scene);
    assert!(texts(&scene).contains(&"0.1") && texts(&scene).contains(&"10"), "{:?}", texts(&scene));
    assert!(svg.len() < 200_000);
}

#[test]
fn curves_of_many_runs() {
    let mut noise = Noise(2);
    let names = [
        "house-prices",
        "house-prices-linear",
        "house-prices-2",
        "房价 <wide & deep>",
        "a-run-with-a-rather-long-name",
    ];
    let runs = names
        .iter()
        .enumerate()
        .map(|(i, n)| run(n, 0.05 + 0.06 * i as f64, 0.12 - 0.02 * i as f64, 60 + 10 * i as u32, &mut noise));
    let scene = curves(&Curves {
        title: "Five runs".into(),
        x_label: "epoch".into(),
        y_label: "loss (mse, scaled)".into(),
        runs: runs.collect(),
    });
    let (svg, _) = show("curves-many", &scene);
    assert!(svg.contains("&lt;wide &amp; deep&gt;"));
}

#[test]
fn curves_of_almost_nothing() {
    for (i, train) in
        [vec![], vec![[1.0, 0.5]], vec![[1.0, f64::NAN], [2.0, f64::INFINITY]], vec![[1.0, 0.0], [2.0, 0.0]]]
            .into_iter()
            .enumerate()
    {
        let runs = vec![RunCurve { train, ..RunCurve::default() }];
        let scene =
            curves(&Curves { title: String::new(), x_label: "epoch".into(), y_label: "loss".into(), runs });
        show(&format!("curves-odd-{i}"), &scene);
    }
    let none = Curves { title: String::new(), x_label: String::new(), y_label: String::new(), runs: vec![] };
    show("curves-none", &curves(&none));
}

#[test]
fn regression_plots() {
    let (actual, predicted) = prices(586);
    let data = Predictions {
        target: "Sale_Price",
        note: "RMSE 24,932 · MAE 15,210 · R² 0.912",
        actual: &actual,
        predicted: &predicted,
    };
    let (svg, _) = show("predicted-vs-actual", &predicted_vs_actual(&data));
    assert_eq!(svg.matches("<circle").count(), 587);
    show("residuals", &residuals(&data));
}

#[test]
fn large_scatter_plots_are_thinned_and_say_so() {
    let (actual, predicted) = prices(20_000);
    let data = Predictions { target: "price", note: "", actual: &actual, predicted: &predicted };
    let scene = predicted_vs_actual(&data);
    let (svg, _) = show("predicted-vs-actual-large", &scene);
    assert_eq!(svg.matches("<circle").count(), MAX_POINTS + 1);
    assert!(texts(&scene).contains(&"5,000 of 20,000 rows shown"));
}

#[test]
fn folds() {
    let scene = fold_metrics(&FoldMetric {
        name: "rmse",
        values: &[24_310.0, 26_870.0, 23_150.0, 25_400.0, 27_020.0],
    });
    show("folds", &scene);
    assert!(texts(&scene).contains(&"mean 25,350 ± 1,660"), "{:?}", texts(&scene));
}

fn curve(class: &str, power: f64, value: f64) -> ScoreCurve {
    let points = (0..=200).map(|i| [f64::from(i) / 200.0, (f64::from(i) / 200.0).powf(power)]).collect();
    ScoreCurve { class: class.into(), points, value }
}

#[test]
fn classification_plots() {
    let one = [curve("malignant", 0.04, 0.9932)];
    show("roc", &roc(&one));
    let three = [curve("setosa", 0.01, 0.999), curve("versicolor", 0.1, 0.95), curve("virginica", 0.2, 0.91)];
    let (svg, _) = show("roc-classes", &roc(&three));
    assert!(svg.contains("versicolor (0.95)"));
    let points =
        (0..=100).map(|i| [f64::from(i) / 100.0, 1.0 - 0.6 * (f64::from(i) / 100.0).powi(9)]).collect();
    let precision = ScoreCurve { class: "malignant".into(), points, value: 0.987 };
    show("pr", &pr(&[precision], Some(0.37)));
    let bins: Vec<CalibrationBin> = (0..10)
        .map(|i| {
            let middle = (f64::from(i) + 0.5) / 10.0;
            let count = if i == 4 { 0 } else { (5.0 + 60.0 * (middle - 0.5).abs().powi(2) * 12.0) as u64 };
            let observed = (middle + 0.12 * (middle * 6.3).sin()).clamp(0.0, 1.0);
            CalibrationBin { from: middle - 0.05, to: middle + 0.05, predicted: middle, observed, count }
        })
        .collect();
    let scene = calibration(&Calibration { note: "expected calibration error 0.061", bins: &bins });
    show("calibration", &scene);
    assert!(texts(&scene).contains(&"fewer than 10"));
    let full: Vec<_> = bins.iter().map(|b| CalibrationBin { count: 50, ..*b }).collect();
    assert!(!texts(&calibration(&Calibration { note: "", bins: &full })).contains(&"fewer than 10"));
}

#[test]
fn confusion_matrices() {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_string()).collect::<Vec<_>>();
    let two = names(&["benign", "malignant"]);
    let scene = confusion_matrix(&Confusion { classes: &two, counts: &[vec![70, 1], vec![2, 41]] });
    show("confusion", &scene);
    assert!(texts(&scene).contains(&"98.6 %"));
    let many: Vec<String> = (0..10).map(|i| format!("class number {i}")).collect();
    let counts: Vec<Vec<u64>> = (0..10u64)
        .map(|a| (0..10u64).map(|p| if a == p { 900 + a } else { (a * 7 + p * 3) % 23 }).collect())
        .collect();
    show("confusion-10", &confusion_matrix(&Confusion { classes: &many, counts: &counts }));
    let lots: Vec<String> = (0..60).map(|i| i.to_string()).collect();
    let counts: Vec<Vec<u64>> =
        (0..60u64).map(|a| (0..60u64).map(|p| if a == p { 90 } else { (a * p) % 5 }).collect()).collect();
    show("confusion-60", &confusion_matrix(&Confusion { classes: &lots, counts: &counts }));
    show("confusion-none", &confusion_matrix(&Confusion { classes: &[], counts: &[] }));
}

#[test]
fn a_gallery() {
    let tile = |i: usize| {
        let (height, width) = (20 + 4 * (i % 3), 28);
        let pixels: Vec<u8> = (0..height * width * 3).map(|v| (v * (i + 3) % 251) as u8).collect();
        let boxes = vec![Boxed {
            place: [4.0, 6.0, 18.0, 40.0],
            label: format!("cat 0.9{i}"),
            color: i,
            dashed: i % 2 == 1,
        }];
        let caption = vec![format!("number {i}"), "was 3, is 5 (0.97)".into()];
        Tile { raster: Raster::new(height, width, 3, &pixels), caption, boxes }
    };
    let tiles: Vec<Tile> = (0..7).map(tile).collect();
    let scene =
        gallery(&Gallery { title: "Worst misses", note: "test split", columns: 4, side: 150.0, tiles });
    let (svg, _) = show("gallery", &scene);
    assert_eq!(svg.matches("<image ").count(), 7);
    assert_eq!(texts(&scene).iter().filter(|t| t.starts_with("number")).count(), 7);
    // Pixels are where they belong: a white raster on the grey edge.
    let white = Tile { raster: Raster::new(2, 2, 1, &[255; 4]), caption: Vec::new(), boxes: Vec::new() };
    let png = gallery(&Gallery { title: "", note: "", columns: 1, side: 50.0, tiles: vec![white] }).to_png();
    let mut reader = ::png::Decoder::new(std::io::Cursor::new(&png)).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let width = reader.next_frame(&mut pixels).unwrap().width as usize;
    let at = |x: usize, y: usize| &pixels[(y * width + x) * 3..][..3];
    assert_eq!((at(24 + 50, 104 + 50), at(24 - 1, 104 + 50)), (&[255; 3][..], &[228, 231, 235][..]));
}

#[test]
fn labels_of_boxes_stay_on_their_picture() {
    let boxed = |left: f32, label: &str| Boxed {
        place: [left, 20.0, left + 6.0, 30.0],
        label: label.into(),
        color: 1,
        dashed: false,
    };
    let words = ["bird 0.93", "postage stamp 0.88", &"long ".repeat(40)];
    let boxes = [2.0, 36.0, 39.0].into_iter().zip(words).map(|(left, label)| boxed(left, label)).collect();
    let raster = Raster::new(30, 40, 1, &[128; 1200]);
    let scene = annotated(&Tile { raster, caption: Vec::new(), boxes }, 480.0);
    let mut seen = Vec::new();
    for shape in &scene.shapes {
        if let Shape::Text { at: [x, _], text, size, bold, .. } = shape {
            assert!(*x >= 0.0 && x + scene::text_width(text, *size, *bold) <= 480.0, "{text} at {x}");
            seen.push((text.clone(), *x));
        }
    }
    assert_eq!((seen[0].0.as_str(), seen[1].0.as_str()), (words[0], words[1]), "nothing is cut that fits");
    assert!(seen[0].1 < 40.0 && seen[1].1 < 36.0 * 12.0, "one begins at its box, the other further left");
}
