"""The rules, one file a subject; `loops_mock.contract.rule.all_rules` reads them all."""
