"""The credit benchmark: ways of assigning credit compared at equal samples, on tasks whose truth is known exactly.

``cells`` has the tasks and the base policies, ``methods`` what each method collects and how it labels, ``labels`` how
right labels are, ``tabular`` the learner, ``summary`` tables and the decision tree, ``run`` the resumable run of all.
Nothing here imports torch: a policy is a table.
"""
