"""Looks at graphs, plans and results; nothing else imports it.

`look` gathers what there is to see, `describe` turns it into `rows` of plain data, and `text`,
`svg`, `dot`, `page` and `timeline` draw them. `explain` says who reads an option, `diff_graphs`
compares, `json_schema` describes the graph language to editors.
"""
