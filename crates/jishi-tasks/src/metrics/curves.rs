//! Curves over thresholds: ROC, precision–recall, calibration.

/// Rows by falling score of one class, for curves and areas at any weights without sorting again.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranking {
    /// Rows by falling score.
    order: Vec<u32>,
    /// Whether the row at a place is of the class.
    hit: Vec<bool>,
    /// Whether a run of equal scores ends at a place.
    last_of_run: Vec<bool>,
}

/// A point of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Horizontal value.
    pub x: f64,
    /// Vertical value.
    pub y: f64,
}

/// A bin of predicted probabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Mean predicted probability.
    pub mean_probability: f64,
    /// Share of rows where the prediction is true.
    pub share: f64,
    /// Weight of the rows.
    pub weight: f64,
}

impl Ranking {
    /// Ranks rows by score.
    #[must_use]
    pub fn new(scores: &[f64], hit: impl Fn(usize) -> bool) -> Self {
        let mut order: Vec<u32> = (0..scores.len() as u32).collect();
        order.sort_by(|a, b| scores[*b as usize].total_cmp(&scores[*a as usize]));
        let last_of_run = (0..order.len())
            .map(|i| order.get(i + 1).is_none_or(|next| scores[*next as usize] != scores[order[i] as usize]))
            .collect();
        let hit = order.iter().map(|row| hit(*row as usize)).collect();
        Self { order, hit, last_of_run }
    }

    /// The rankings whose mean is a metric: of two classes the second alone, else each against the rest.
    #[must_use]
    pub fn of_classes(actual: &[u32], probabilities: &[f64], classes: usize) -> Vec<Self> {
        let first = if classes == 2 { 1 } else { 0 };
        (first..classes)
            .map(|class| {
                let scores: Vec<f64> = probabilities.iter().skip(class).step_by(classes).copied().collect();
                Self::new(&scores, |row| actual[row] as usize == class)
            })
            .collect()
    }

    /// Weights of hits and misses down to each threshold.
    fn cumulative<'a>(&'a self, weights: &'a [f64]) -> impl Iterator<Item = (f64, f64)> + 'a {
        let (mut hits, mut misses) = (0.0, 0.0);
        self.order.iter().zip(&self.hit).zip(&self.last_of_run).filter_map(move |((row, hit), last)| {
            *(if *hit { &mut hits } else { &mut misses }) += weights[*row as usize];
            last.then_some((hits, misses))
        })
    }

    fn totals(&self, weights: &[f64]) -> Option<(f64, f64)> {
        self.cumulative(weights).last().filter(|(hits, misses)| *hits > 0.0 && *misses > 0.0)
    }

    /// Area under the ROC curve; `None` where all rows are of the class, or none.
    #[must_use]
    pub fn auroc(&self, weights: &[f64]) -> Option<f64> {
        let (hits, misses) = self.totals(weights)?;
        let (mut area, mut before) = (0.0, (0.0, 0.0));
        for (h, m) in self.cumulative(weights) {
            area += (m - before.1) * (h + before.0) / 2.0;
            before = (h, m);
        }
        Some(area / (hits * misses))
    }

    /// Average precision: Σ (recall step) · precision; `None` where all rows are of the class, or none.
    #[must_use]
    pub fn average_precision(&self, weights: &[f64]) -> Option<f64> {
        let (hits, _) = self.totals(weights)?;
        let (mut sum, mut before) = (0.0, 0.0);
        for (h, m) in self.cumulative(weights) {
            if h > before {
                sum += (h - before) / hits * (h / (h + m));
            }
            before = h;
        }
        Some(sum)
    }

    /// The ROC curve from (0, 0) to (1, 1): false against true positive rate.
    #[must_use]
    pub fn roc(&self) -> Vec<Point> {
        let weights = vec![1.0; self.order.len()];
        let Some((hits, misses)) = self.totals(&weights) else {
            return Vec::new();
        };
        let mut points = vec![Point { x: 0.0, y: 0.0 }];
        points.extend(self.cumulative(&weights).map(|(h, m)| Point { x: m / misses, y: h / hits }));
        points
    }

    /// The precision–recall curve: recall against precision, from the highest threshold down.
    #[must_use]
    pub fn precision_recall(&self) -> Vec<Point> {
        let weights = vec![1.0; self.order.len()];
        let Some((hits, _)) = self.totals(&weights) else {
            return Vec::new();
        };
        let mut points = vec![Point { x: 0.0, y: 1.0 }];
        points.extend(self.cumulative(&weights).map(|(h, m)| Point { x: h / hits, y: h / (h + m) }));
        points
    }
}

/// Bins of equal width over (probability, true, weight); empty bins are left out.
#[must_use]
pub fn bins(rows: impl Iterator<Item = (f64, bool, f64)>, count: usize) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); count];
    for (p, hit, w) in rows {
        // (low, high] as in the paper; 0 belongs to the first.
        let i = ((p * count as f64).ceil() as usize).clamp(1, count) - 1;
        bins[i].mean_probability += p * w;
        bins[i].share += f64::from(u8::from(hit)) * w;
        bins[i].weight += w;
    }
    bins.retain(|b| b.weight > 0.0);
    for b in &mut bins {
        b.mean_probability /= b.weight;
        b.share /= b.weight;
    }
    bins
}
