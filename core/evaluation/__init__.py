"""Evaluation: what a scorer predicts, what its predictions are worth, and what is chosen by them.

predictions     one scorer's probabilities and completions for some texts
student_scores  the stages evaluate, export and explain, which ask the student
metrics         the registered metrics, and all metrics of one set of predictions
bootstrap       replicates of every metric, for intervals and paired comparisons
comparison      paired differences between scorers, in numbers and in words
calibration     curves from the model's probabilities to probabilities that hold on val
threshold       the decision threshold by any objective, and how much it depends on the rows
decision        the checkpoint, calibrator and threshold that val chooses; the decide stage
curves          precision by recall, metrics by threshold, accuracy by coverage, reliability
slices          metrics on parts of the rows, hard texts, faithfulness; the hardness stage
analysis        all scorers on the same rows; the analyse stage
baselines       the majority class and TF-IDF regressions; the baseline stage

Nothing is exported here: a config that names a metric loads core.evaluation.metrics alone.
"""
