# What ../ and the workflows are told.

output "backend" {
  description = "The file for `terraform init -backend-config=backend.hcl` in ../."
  value       = <<-HCL
    bucket = "${aws_s3_bucket.state.bucket}"
    key    = "${local.state_key}"
    region = "${var.region}"
  HCL
}

output "role_arns" {
  description = "The roles that workflows take: one to plan, one to apply."
  value       = { for name, role in aws_iam_role.github : name => role.arn }
}

output "boundary" {
  description = "The file bootstrap.auto.tfvars in ../: every role that is made there is bounded."
  value       = "permissions_boundary_arn = \"${aws_iam_policy.boundary.arn}\"\n"
}
