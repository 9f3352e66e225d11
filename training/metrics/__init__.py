"""Numbers about models and their answers: likelihood, n-grams, exams, judges, baselines."""
