# What the root wires together.

output "function_arn" {
  description = "The function's ARN."
  value       = aws_lambda_function.stage.arn
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

output "alarm_arns" {
  description = "The ARNs of the stage's alarms."
  value       = [aws_cloudwatch_metric_alarm.errors.arn, aws_cloudwatch_metric_alarm.duration.arn]
}
