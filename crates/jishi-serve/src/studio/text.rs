//! Every text of the studio, in both languages, in one table.

use std::fmt::Display;

use axum::http::{HeaderMap, header};

/// A language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lang {
    /// English.
    En,
    /// Chinese.
    Zh,
}

impl Lang {
    /// As in links and in the cookie.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// As pages say it.
    #[must_use]
    pub fn code_of_page(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    /// In its own words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Zh => "中文",
        }
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::En => Self::Zh,
            Self::Zh => Self::En,
        }
    }

    /// By its code.
    #[must_use]
    pub fn named(code: &str) -> Option<Self> {
        match code.trim().to_ascii_lowercase().split('-').next() {
            Some("zh") => Some(Self::Zh),
            Some("en") => Some(Self::En),
            _ => None,
        }
    }

    /// That of a request: the one that was chosen before, or the first known one that its browser asks for.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let cookie = text(header::COOKIE).split(';').find_map(|pair| pair.trim().strip_prefix("lang="));
        let accepted = || {
            let mut wanted: Vec<(f64, Self)> = text(header::ACCEPT_LANGUAGE)
                .split(',')
                .filter_map(|part| {
                    let (code, quality) = part.split_once(";q=").unwrap_or((part, "1"));
                    Some((quality.trim().parse().ok()?, Self::named(code)?))
                })
                .filter(|(quality, _)| *quality > 0.0)
                .collect();
            wanted.sort_by(|a, b| b.0.total_cmp(&a.0));
            wanted.first().map(|(_, lang)| *lang)
        };
        cookie.and_then(Self::named).or_else(accepted).unwrap_or(Self::En)
    }
}

macro_rules! texts {
    ($($key:ident: $en:literal, $zh:literal;)*) => {
        /// A text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum T { $($key),* }

        impl T {
            /// All of them.
            #[cfg(test)]
            pub const ALL: &'static [Self] = &[$(Self::$key),*];

            /// In a language. `{0}`, `{1}`, … stand for what [`T::with`] puts there.
            #[must_use]
            pub fn of(self, lang: Lang) -> &'static str {
                match (self, lang) {
                    $((Self::$key, Lang::En) => $en, (Self::$key, Lang::Zh) => $zh,)*
                }
            }
        }
    };
}

impl T {
    /// With something in it.
    #[must_use]
    pub fn with(self, lang: Lang, with: &[&dyn Display]) -> String {
        let mut out = String::new();
        let mut rest = self.of(lang);
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let Some((number, after)) = after.split_once('}') else { break };
            if let Some(value) = number.parse::<usize>().ok().and_then(|i| with.get(i)) {
                out.push_str(&value.to_string());
            }
            rest = after;
        }
        out + rest
    }
}

texts! {
    Studio: "Jishi studio", "基石工作室";
    Runs: "Runs", "训练记录";
    AllRuns: "All runs", "全部训练";
    StartRun: "Start a run", "开始训练";
    StartFirst: "Start the first run", "开始第一次训练";
    Sections: "Sections", "栏目";
    SkipToContent: "Skip to content", "跳到正文";
    FolderOf: "Runs folder: {0}", "训练文件夹：{0}";
    NothingHere: "There is nothing here", "这里什么也没有";
    NothingHereWhy: "The page or the run that you look for is not there, or no longer.", "您要找的页面或训练不存在，或者已被删除。";
    NotFromElsewhere: "Only for this machine", "仅限本机";
    NotFromElsewhereWhy: "The studio of this server answers to the machine that it runs on. Open it there, or through a tunnel to it.", "此服务器的工作室只回应它所在的机器。请在那台机器上打开，或通过隧道连接。";
    MayNotAct: "Not allowed", "不允许";
    MayNotActWhy: "Runs are started, stopped and tried from the machine that the studio runs on.", "只能在工作室所在的机器上开始、停止和试用训练。";
    FormIsOld: "The page is from an earlier studio. Load it again, and try once more.", "页面来自先前的工作室。请重新加载页面后再试。";
    DidNotWork: "That did not work", "操作未成功";
    NoRuns: "No runs yet", "还没有训练";
    NoRunsWhy: "What you train appears here, with its curves, its figures and its model.", "您训练的模型会出现在这里：曲线、指标和模型一目了然。";
    OrTerminal: "Or in a terminal:", "或在终端中：";
    NoRunFits: "No run fits what you look for.", "没有符合条件的训练。";
    Find: "Find", "查找";
    FindHint: "Name, model, words", "名称、模型、描述";
    AnyState: "Any", "全部";
    AnyTask: "Any", "全部";
    Show: "Show", "显示";
    Choose: "Choose", "选择";
    ChooseRun: "Choose {0}", "选择 {0}";
    CompareChosen: "Compare the chosen", "比较所选";
    CompareHint: "Choose two or more runs.", "请选择两个或更多训练。";
    CompareTitle: "Runs side by side", "训练对比";
    CompareTwo: "Choose at least two runs to compare.", "请至少选择两个训练进行比较。";
    ServedModels: "Served models", "提供服务的模型";
    Run: "Run", "训练";
    State: "Status", "状态";
    Task: "Task", "任务";
    Metric: "Metric", "指标";
    Metrics: "Figures", "指标";
    Steps: "Steps", "步数";
    Time: "Time", "用时";
    Began: "Started", "开始于";
    Preparing: "Preparing", "准备中";
    Running: "Running", "训练中";
    Pausing: "Pausing", "暂停中";
    Finished: "Finished", "已完成";
    Paused: "Paused", "已暂停";
    Stopped: "Stopped", "已停止";
    Killed: "Interrupted", "已中断";
    Failed: "Failed", "失败";
    Refused: "Did not start", "未能开始";
    Unreadable: "Unreadable", "无法读取";
    KilledWhy: "The process that trained this run is gone without a word. The run can go on from its last checkpoint.", "训练进程意外消失。可以从最后一个检查点继续。";
    RefusedWhy: "The training did not begin. Its output below says why.", "训练没有开始，原因见下方输出。";
    PreparingWhy: "The data is being read, or the model built.", "正在读取数据或构建模型。";
    PausingWhy: "The run saves a checkpoint and ends.", "正在保存检查点并结束。";
    RunGone: "The folder of this run is gone: it was removed meanwhile.", "此训练的文件夹已被删除。";
    Pause: "Pause", "暂停";
    Resume: "Resume", "继续";
    Stop: "Stop", "停止";
    Clear: "Clear away", "清除";
    Cancel: "Cancel", "取消";
    PauseAsk: "The run saves a checkpoint and ends. It can go on later, exactly where it was.", "训练将保存检查点并结束，之后可以从原处精确继续。";
    ResumeAsk: "The run goes on from its last checkpoint, as if it had never stopped.", "训练将从最后一个检查点继续，如同从未中断。";
    StopAsk: "The run saves a checkpoint and ends, and is marked as stopped. No model is made of it unless it goes on.", "训练将保存检查点、结束并标记为已停止。除非继续训练，否则不会生成模型。";
    ClearAsk: "The notes of this start are removed. It never became a run, so nothing else is lost.", "将删除这次启动的记录。它从未成为训练，不会丢失其他内容。";
    TryIt: "Try it", "试一试";
    Seconds: "{0} s", "{0} 秒";
    MinutesSeconds: "{0} min {1} s", "{0} 分 {1} 秒";
    HoursMinutes: "{0} h {1} min", "{0} 小时 {1} 分";
    DaysHours: "{0} d {1} h", "{0} 天 {1} 小时";
    JustNow: "just now", "刚刚";
    MinutesAgo: "{0} min ago", "{0} 分钟前";
    HoursAgo: "{0} h ago", "{0} 小时前";
    DaysAgo: "{0} d ago", "{0} 天前";
    OnThisPage: "On this page", "本页内容";
    Curves: "Curves", "曲线";
    CurvesSoon: "Curves appear with the first steps.", "训练开始后，曲线会显示在这里。";
    NoCurves: "There is no metric log to draw.", "没有可绘制的指标记录。";
    MoreCurves: "More curves", "更多曲线";
    DamagedLines: "{0} damaged lines of the metric log were left out.", "已忽略指标记录中 {0} 行损坏的内容。";
    AsTable: "As a table", "以表格显示";
    ChartSays: "{0}: from {1} to {2} at step {3}, between {4} and {5}.", "{0}：从 {1} 到第 {3} 步的 {2}，介于 {4} 与 {5} 之间。";
    Loss: "Loss", "损失";
    Training: "training", "训练";
    Validation: "validation", "验证";
    TrainingLoss: "Training loss", "训练损失";
    ValidationLoss: "Validation loss", "验证损失";
    ValidationOf: "Validation {0}", "验证 {0}";
    TrainingOf: "Training {0}", "训练 {0}";
    LearningRate: "Learning rate", "学习率";
    GradientNorm: "Gradient norm", "梯度范数";
    Step: "Step", "步";
    StepOf: "{0} of {1}", "{0} / {1}";
    Fold: "Fold", "折";
    FoldNumber: "fold {0}", "第 {0} 折";
    Epoch: "Epoch", "轮";
    Epochs: "Epochs", "轮数";
    Batch: "Batch", "批大小";
    Speed: "Speed", "速度";
    RowsASecond: "{0} rows/s", "{0} 行/秒";
    Left: "Left", "剩余";
    About: "about {0}", "约 {0}";
    Evaluating: "evaluating", "评估中";
    Progress: "Progress", "进度";
    OnTest: "On the test rows", "测试集结果";
    OnValidation: "On the validation rows", "验证集结果";
    SoFar: "So far", "目前";
    Interval: "95 % interval", "95 % 置信区间";
    Samples: "Samples", "样例";
    Earlier: "Earlier ones", "更早的";
    AtStep: "step {0}", "第 {0} 步";
    MadeAt: "Made at {0}", "{0} 时生成";
    Plots: "Plots", "图表";
    PlotOf: "Plot: {0}", "图表：{0}";
    Recipe: "Recipe", "配方";
    Recipes: "Recipes", "配方";
    ShowRecipe: "The whole recipe", "完整配方";
    DifferencesFrom: "Differences from", "与另一训练的差异";
    Differences: "Differences of the recipes", "配方差异";
    NoOther: "no other run", "不比较";
    SameRecipe: "The recipes are the same.", "配方相同。";
    Key: "Key", "键";
    Data: "Data", "数据";
    RowsRead: "Rows read", "读取行数";
    RowsTrain: "For training", "训练";
    RowsValidation: "For validation", "验证";
    RowsTest: "For the test", "测试";
    RowsDropped: "Dropped", "丢弃";
    File: "File", "文件";
    Ledger: "Ledger", "数据台账";
    LedgerOf: "Ledger: {0} decisions", "数据台账：{0} 项处理";
    LedgerEmpty: "No row was dropped, no value changed.", "没有丢弃任何行，也没有修改任何值。";
    Action: "What", "处理";
    Rows: "Rows", "行数";
    Reason: "Why", "原因";
    Column: "Column", "列";
    Lines: "Where", "位置";
    Dropped: "dropped", "丢弃";
    Changed: "changed", "修改";
    ModelCard: "Model card", "模型卡";
    ShowCard: "The whole card", "完整模型卡";
    Facts: "Facts", "概况";
    Seed: "Seed", "随机种子";
    Machine: "Machine", "机器";
    Threads: "Threads", "线程";
    Program: "Program", "程序";
    RecipeHash: "Recipe's hash", "配方哈希";
    BestStep: "Best step", "最佳步";
    PeakMemory: "Peak memory", "内存峰值";
    MakingBatches: "Making batches, of a step", "制作批次占步骤时间";
    Extensions: "Vector extensions", "向量指令集";
    Checkpoints: "Checkpoints", "检查点";
    Output: "Output of the process", "进程输出";
    ShowOutput: "The last lines", "最后几行";
    Parameters: "Parameters", "参数量";
    ParametersOf: "{0} parameters", "{0} 个参数";
    OwnRecipes: "In this folder", "本文件夹";
    BuiltIn: "Built in", "内置";
    ChooseRecipe: "Choose a recipe: what to learn, from which data, with which model.", "请选择一个配方：学什么、用什么数据、用什么模型。";
    OwnRecipesHint: "For your own data, make one with", "要使用自己的数据，请先创建配方：";
    Settings: "Settings", "设置";
    MoreSettings: "More settings", "更多设置";
    MoreSettingsHint: "One key and value a line, as with --set.", "每行一个键值，同 --set。";
    CheckAndStart: "Check and start", "检查并开始";
    CheckOnly: "Check only", "仅检查";
    Checking: "Checking…", "检查中…";
    CheckRuns: "Another check is running. Wait a moment, and try again.", "另一项检查正在进行，请稍后再试。";
    ProblemsFound: "Problems found: {0}", "发现 {0} 个问题";
    NoProblem: "No problem found", "没有发现问题";
    LineNumber: "line {0}", "第 {0} 行";
    Disk: "Disk", "磁盘";
    NoModel: "No model yet", "还没有模型";
    NoModelWhy: "A model can be tried once its run has finished.", "训练完成后即可试用模型。";
    TryOf: "Try {0}", "试用 {0}";
    TryRow: "Fill in a row. The values are those of a row that the model saw; change them, and ask.", "填写一行数据。这里预填了模型见过的一行；修改后提问。";
    TryClassify: "Write a text, and ask what the model takes it for.", "写一段文字，看模型如何判断。";
    TryMasked: "Write a text with gaps ([MASK]), and ask what belongs there.", "写一段带空缺（[MASK]）的文字，让模型填空。";
    TryTranslate: "Write a sentence to translate.", "写一句要翻译的话。";
    TryEmbed: "Write a text, and ask for its vector.", "写一段文字，获取它的向量。";
    TryWrite: "Begin a text, and let the model go on.", "写个开头，让模型续写。";
    TryPicture: "Choose a picture, and see what the model takes it for.", "选择一张图片，看模型如何识别。";
    TryBoxes: "Choose a picture, and see what the model finds on it.", "选择一张图片，看模型找到了什么。";
    TrySeed: "Every seed makes other images; the same seed makes the same.", "每个种子生成不同的图像；相同的种子生成相同的图像。";
    TryNothing: "This model was trained for others to begin with. It answers nothing itself.", "此模型供其他训练作为起点，自身不作回答。";
    Answer: "Answer", "回答";
    Ask: "Ask", "提问";
    Asking: "Asking…", "请稍候…";
    Usually: "usually {0} to {1}", "通常 {0} 至 {1}";
    Around: "about {0}, give or take {1}", "约 {0}，上下 {1}";
    FilesOf: "{0} files ({1})", "{0} 个文件（{1}）";
    ValuesKnown: "{0} known values", "{0} 个已知值";
    Text: "Text", "文字";
    VectorOf: "{0} numbers: {1}, …", "{0} 个数：{1}, …";
    Prompt: "Prompt", "提示";
    AsConversation: "As a message of a conversation", "作为对话消息";
    MaxTokens: "Tokens at most", "最多词元";
    Temperature: "Temperature", "温度";
    TopP: "Top p", "Top p";
    Write: "Write", "生成";
    StopWriting: "Stop", "停止";
    ChoosePicture: "Picture", "图片";
    PictureStays: "It goes to this server alone, and is not kept.", "图片只发送到此服务器，不会保存。";
    NothingFound: "The model finds nothing on this picture.", "模型没有在图片上找到任何东西。";
    HowMany: "How many", "数量";
    Make: "Make", "生成";
    MadeOf: "{0} images of the seed {1}", "种子 {1} 生成的 {0} 张图像";
    NeedsScript: "This needs JavaScript.", "此功能需要 JavaScript。";
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn both_languages_say_everything() {
        let marks = |text: &str| {
            let mut found: Vec<String> =
                (0..9).map(|i| format!("{{{i}}}")).filter(|mark| text.contains(mark.as_str())).collect();
            found.sort();
            found
        };
        for text in T::ALL {
            let (en, zh) = (text.of(Lang::En), text.of(Lang::Zh));
            assert!(!en.trim().is_empty() && !zh.trim().is_empty(), "{text:?}");
            assert_eq!(marks(en), marks(zh), "{text:?}");
            assert_eq!(en.matches('{').count(), marks(en).len(), "{text:?}");
            assert!(en.is_ascii() || en.contains('…'), "{text:?}: {en}");
            let same = matches!(text, T::TopP | T::StepOf);
            assert!(same || zh.chars().any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c)), "{text:?}: {zh}");
        }
        assert!(T::ALL.len() > 150);
    }

    #[test]
    fn values_stand_where_the_text_says() {
        assert_eq!(T::StepOf.with(Lang::En, &[&3, &"9"]), "3 of 9");
        let said = T::MadeOf.with(Lang::Zh, &[&64, &7]);
        assert_eq!(said, "种子 7 生成的 64 张图像");
        assert_eq!(T::FolderOf.with(Lang::En, &[&"{0}{1}"]), "Runs folder: {0}{1}");
    }

    #[test]
    fn the_language_is_that_of_the_reader() {
        let of = |cookie: &str, accepts: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(cookie).unwrap());
            headers.insert(header::ACCEPT_LANGUAGE, HeaderValue::from_str(accepts).unwrap());
            Lang::of(&headers)
        };
        assert_eq!(of("", "zh-CN,zh;q=0.9,en;q=0.8"), Lang::Zh);
        assert_eq!(of("", "de,en;q=0.5,zh;q=0.4"), Lang::En);
        assert_eq!(of("a=b; lang=zh", "en"), Lang::Zh);
        assert_eq!(of("lang=xx", "fr"), Lang::En);
        assert_eq!(of("", "zh;q=0,en;q=nan"), Lang::En);
    }
}
