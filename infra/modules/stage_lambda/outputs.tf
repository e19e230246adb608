# What the root wires together.

output "live_arn" {
  description = "The ARN of the alias `live`: the version that is called."
  value       = aws_lambda_alias.live.arn
}

output "function_name" {
  description = "The function's name."
  value       = aws_lambda_function.stage.function_name
}

output "role_arn" {
  description = "The ARN of the function's role."
  value       = aws_iam_role.function.arn
}

output "log_group_name" {
  description = "The name of the function's log group."
  value       = aws_cloudwatch_log_group.function.name
}

output "variables" {
  description = "The function's environment."
  value       = aws_lambda_function.stage.environment[0].variables
}

output "boundary_arn" {
  description = "The policy that bounds the function's role."
  value       = aws_iam_role.function.permissions_boundary
}
