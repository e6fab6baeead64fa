"""What finished runs say: statistics, tables, words, and the published studies."""
