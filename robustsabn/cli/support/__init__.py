"""What several verbs share: arguments, folders of evaluations, the model under attack, failures in one line."""
